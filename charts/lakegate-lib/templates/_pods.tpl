{{/* What Pod Security calls restricted, and a read-only root. */}}
{{- define "lakegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# the volume's own files are looked at once, not on every start
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "lakegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* A variable out of a Secret: {name, secret: {name, key, optional}}. */}}
{{- define "lakegate.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name }}
      key: {{ .secret.key }}
      {{- if .secret.optional }}
      optional: true
      {{- end }}
{{- end }}

{{/*
What every pod of ours has: {root, serviceAccount, priorityClassName, token: whether it talks to the API server}.
*/}}
{{- define "lakegate.podDefaults" -}}
serviceAccountName: {{ .serviceAccount }}
# only what makes Jobs, or rolls out, talks to the API server
automountServiceAccountToken: {{ ternary true false (not (empty .token)) }}
# or a Service called gateway would set GATEWAY_PORT, which is a setting of ours
enableServiceLinks: false
{{- with include "lakegate.pullSecrets" .root }}
{{ . }}
{{- end }}
{{- with include "lakegate.placement" . }}
{{ . }}
{{- end }}
securityContext:
  {{- include "lakegate.podSecurity" . | nindent 2 }}
{{- end }}

{{/*
Where a pod may run, and what gives way to it: {root, priorityClassName}. A chart's own values take the place of the
global ones; what has no values of its own, as the first hooks, has the global ones.
*/}}
{{- define "lakegate.placement" -}}
{{- $global := .root.Values.global | default dict -}}
{{- $placed := dict -}}
{{- with .priorityClassName | default $global.priorityClassName }}{{ $_ := set $placed "priorityClassName" . }}{{ end -}}
{{- with .root.Values.nodeSelector | default $global.nodeSelector }}{{ $_ := set $placed "nodeSelector" . }}{{ end -}}
{{- with .root.Values.tolerations | default $global.tolerations }}{{ $_ := set $placed "tolerations" . }}{{ end -}}
{{- with $placed }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "lakegate.pullSecrets" -}}
{{- with (((.Values.global).image).pullSecrets) -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "lakegate.pullPolicy" -}}
{{- (((.Values.global).image).pullPolicy) | default "IfNotPresent" -}}
{{- end }}

{{/* Where the folder of a file:// warehouse is; empty for an object store. */}}
{{- define "lakegate.warehouseFolder" -}}
{{- $location := ((.Values.global).warehouse).location | default "" -}}
{{- if hasPrefix "file://" $location }}{{ trimPrefix "file://" $location }}{{ end -}}
{{- end }}

{{/* Settings whose values or files are in Secrets, as variables. */}}
{{- define "lakegate.secretEnvironment" -}}
{{- $root := . -}}
{{- range $path, $secret := .Values.secretSettings }}
{{ include "lakegate.secretVariable" (dict "name" (include "lakegate.variable" (dict "root" $root "path" $path)) "secret" $secret) }}
{{- end }}
{{- range $path, $secret := .Values.secretFiles }}
- name: {{ include "lakegate.variable" (dict "root" $root "path" $path) }}
  value: /etc/lakegate/{{ $path | replace "." "-" | replace "_" "-" }}/{{ $secret.key }}
{{- end }}
{{- range $path, $_ := .Values.secretFolders }}
- name: {{ include "lakegate.variable" (dict "root" $root "path" $path) }}
  value: /etc/lakegate/{{ $path | replace "." "-" | replace "_" "-" }}
{{- end }}
{{- end }}

{{/* What every process of a service has mounted beside its own folders: {root, warehouse}. */}}
{{- define "lakegate.mounts" -}}
{{- $root := .root -}}
{{- with (ternary (include "lakegate.warehouseFolder" $root) "" (default false .warehouse)) }}
- name: warehouse
  mountPath: {{ . }}
{{- end }}
{{- if include "lakegate.takesTurns" $root }}
- name: turn
  mountPath: /etc/lakegate/turn
  readOnly: true
- name: rollout-key
  mountPath: /etc/lakegate/rollout
  readOnly: true
{{- end }}
{{- range $path, $_ := merge (dict) ($root.Values.secretFolders | default dict) $root.Values.secretFiles }}
- name: {{ $path | replace "." "-" | replace "_" "-" }}
  # a folder, not a subPath: a rotated key gets here without a restart
  mountPath: /etc/lakegate/{{ $path | replace "." "-" | replace "_" "-" }}
  readOnly: true
{{- end }}
{{- end }}

{{/* The volumes of these: {root, warehouse}. */}}
{{- define "lakegate.mountedVolumes" -}}
{{- $root := .root -}}
{{- with (ternary (include "lakegate.warehouseFolder" $root) "" (default false .warehouse)) }}
- name: warehouse
  persistentVolumeClaim:
    claimName: {{ $root.Values.global.warehouse.claim }}
{{- end }}
{{- if include "lakegate.takesTurns" $root }}
- name: turn
  configMap:
    name: lakegate-consumers
- name: rollout-key
  secret:
    secretName: lakegate-rollout-key
    defaultMode: 0440
    # without it the driver of a rollout is not believed, and the file above has to do
    optional: true
{{- end }}
{{- range $path, $secret := $root.Values.secretFiles }}
- name: {{ $path | replace "." "-" | replace "_" "-" }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0440
    items:
      - key: {{ $secret.key }}
        path: {{ $secret.key }}
{{- end }}
{{- range $path, $secret := $root.Values.secretFolders }}
- name: {{ $path | replace "." "-" | replace "_" "-" }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0440
{{- end }}
{{- end }}
