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

{{/* What every pod of ours has: {root, serviceAccount}. */}}
{{- define "lakegate.podDefaults" -}}
{{- $global := .root.Values.global | default dict -}}
serviceAccountName: {{ .serviceAccount }}
# none of ours talks to the API server
automountServiceAccountToken: false
# or a Service called gateway would set GATEWAY_PORT, which is a setting of ours
enableServiceLinks: false
{{- with ($global.image).pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "lakegate.podSecurity" . | nindent 2 }}
{{- end }}

{{- define "lakegate.pullPolicy" -}}
{{- (((.Values.global).image).pullPolicy) | default "IfNotPresent" -}}
{{- end }}

{{/* Where the folder of a file:// warehouse is; empty for an object store. */}}
{{- define "lakegate.warehouseFolder" -}}
{{- $location := ((.Values.global).warehouse).location | default "" -}}
{{- if hasPrefix "file://" $location }}{{ trimPrefix "file://" $location }}{{ end -}}
{{- end }}
