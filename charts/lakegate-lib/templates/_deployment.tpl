{{/*
The Deployment of a service: {root, configuration, args, volumes: [{name, path, source}]}. `configuration` is the
ConfigMap's text; a change of it changes the pod template, and so rolls the pods. `args`: what to run of the image, where
that is not the service itself.
*/}}
{{- define "lakegate.deployment" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $ports := include "lakegate.ports" $root.Chart.Name | fromYaml -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "lakegate.name" $root }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "lakegate.labels" $root | nindent 4 }}
  {{- $live := lookup "apps/v1" "Deployment" $root.Release.Namespace (include "lakegate.name" $root) }}
  {{- $scaled := or $values.autoscaling.enabled $values.keda.enabled }}
  {{- if and (include "lakegate.colour" $root) (not $scaled) }}
  annotations:
    # what a rollout brings the colour up at, or more
    lakegate.io/replicas: {{ $values.replicas | quote }}
  {{- end }}
spec:
  {{- if $scaled }}
  {{- /* A field that was in the manifest before and is not now is taken away, and 1 is the API server's default: so the
         number that the autoscaler has chosen is said again. */}}
  {{- with $live }}
  replicas: {{ .spec.replicas }}
  {{- end }}
  {{- else if and $live (include "lakegate.colour" $root) (eq (int $live.spec.replicas) 0) }}
  {{- /* A rollout has put it there, and brings it up again. To whom applies another number the API server says that the
         field is the rollout's. */}}
  replicas: 0
  {{- else }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # a new pod is ready before an old one goes; one that never gets ready fails the release
  progressDeadlineSeconds: 300
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "lakegate.selector" $root | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "lakegate.labels" $root | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/configuration: {{ .configuration | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "lakegate.podDefaults" (dict "root" $root "serviceAccount" (include "lakegate.name" $root) "priorityClassName" $values.priorityClassName "token" .token) | nindent 6 }}
      # preStop, `Connection: close` for drain.seconds, then the longest wait of a request
      terminationGracePeriodSeconds: {{ $values.drain.graceSeconds }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range $values.spread }}
        - maxSkew: {{ .maxSkew }}
          topologyKey: {{ .topologyKey }}
          whenUnsatisfiable: {{ .whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "lakegate.selector" $root | nindent 14 }}
          # each revision spreads by itself: the old pods of an update are about to go
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- if $values.development.sync }}
      # the package where `skaffold dev` may write to it; a restarted container finds there what was synced
      initContainers:
        - name: code
          image: {{ include "lakegate.image" $root }}
          imagePullPolicy: {{ include "lakegate.pullPolicy" $root }}
          command:
            - /opt/lakegate/bin/python
            - -c
            - |
              import importlib.util, shutil
              name = "lakegate_{{ include "lakegate.package" $root }}"
              shutil.copytree(importlib.util.find_spec(name).submodule_search_locations[0], f"/sync/{name}")
          securityContext:
            {{- include "lakegate.containerSecurity" $root | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - name: sync
              mountPath: /sync
      {{- end }}
      containers:
        - name: {{ $root.Chart.Name }}
          image: {{ include "lakegate.image" $root }}
          imagePullPolicy: {{ include "lakegate.pullPolicy" $root }}
          {{- $args := .args | default (list (printf "lakegate_%s" (include "lakegate.package" $root))) }}
          {{- if $values.development.sync }}
          # the service is a child, which SIGHUP has ended and started anew: a container that ends for each changed file
          # is in CrashLoopBackOff after a few
          command:
            - /opt/lakegate/bin/python
            - -c
            - |
              {{- include "lakegate.restarter" . | nindent 14 }}
          args:
            {{- toYaml $args | nindent 12 }}
          {{- else if .args }}
          args:
            {{- toYaml .args | nindent 12 }}
          {{- end }}
          securityContext:
            {{- include "lakegate.containerSecurity" $root | nindent 12 }}
          ports:
            - name: http
              containerPort: {{ $ports.api }}
            - name: management
              containerPort: {{ $ports.management }}
          envFrom:
            - configMapRef:
                name: {{ include "lakegate.name" $root }}
          env:
            {{- if $values.development.sync }}
            - name: PYTHONPATH
              value: /sync
            {{- end }}
            {{- include "lakegate.secretEnvironment" $root | nindent 12 }}
          {{- if not $values.development.sync }}
          # has it opened its pools and read its keys? Up to two minutes.
          startupProbe:
            httpGet:
              path: /startupz
              port: http
            periodSeconds: 1
            timeoutSeconds: 2
            failureThreshold: 120
          # does the event loop still turn? It asks no other server: a database that is away is no reason to restart.
          livenessProbe:
            httpGet:
              path: /livez
              port: http
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          {{- end }}
          # can it serve now? Not while it drains or its database is away (checked for 2 s at most).
          readinessProbe:
            httpGet:
              path: /readyz
              port: http
            periodSeconds: 5
            timeoutSeconds: 4
            failureThreshold: 2
          lifecycle:
            preStop:
              # Services and controllers need as long to learn that the pod goes
              sleep:
                seconds: {{ $values.drain.preStopSeconds }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if $values.development.sync }}
            - name: sync
              mountPath: /sync
            {{- end }}
            {{- range .volumes }}
            - name: {{ .name }}
              mountPath: {{ .path }}
            {{- end }}
            {{- include "lakegate.mounts" . | nindent 12 }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: {{ $values.tmpSize }}
        {{- if $values.development.sync }}
        - name: sync
          emptyDir:
            sizeLimit: 64Mi
        {{- end }}
        {{- range .volumes }}
        - name: {{ .name }}
          {{- toYaml .source | nindent 10 }}
        {{- end }}
        {{- include "lakegate.mountedVolumes" . | nindent 8 }}
{{- end }}
