{{/*
An HPA on CPU, and on metrics of the service itself where an adapter serves them. `customMetrics: auto` looks whether
the cluster has that API; helm template, which knows no cluster, then renders none.
*/}}
{{- define "lakegate.autoscaler" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if $scaling.enabled -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "lakegate.name" . }}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ $scaling.cpuPercent }}
    {{- $served := .Capabilities.APIVersions.Has "custom.metrics.k8s.io/v1beta1" }}
    {{- if or (eq $scaling.customMetrics "always") (and (eq $scaling.customMetrics "auto") $served) }}
    {{- range $scaling.podMetrics }}
    - type: Pods
      pods:
        metric:
          name: {{ .name }}
        target:
          type: AverageValue
          averageValue: {{ .average | quote }}
    {{- end }}
    {{- end }}
  behavior:
    {{- toYaml $scaling.behavior | nindent 4 }}
{{- end }}
{{- end }}

{{/*
Opt-in: needs KEDA's controller and its resource definitions. Without topics it is the lag of all that the group
consumes; more pods than they have partitions are never asked for.
*/}}
{{- define "lakegate.scaledObject" -}}
{{- $keda := .Values.keda -}}
{{- if $keda.enabled -}}
{{- $kafka := (.Values.global).kafka | default dict -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "lakegate.name" . }}
  minReplicaCount: {{ $keda.minReplicas }}
  maxReplicaCount: {{ $keda.maxReplicas }}
  pollingInterval: 15
  cooldownPeriod: 300
  triggers:
    {{- range $keda.topics | default (list "") }}
    - type: kafka
      metadata:
        bootstrapServers: {{ $kafka.bootstrap | quote }}
        consumerGroup: {{ $keda.group | quote }}
        {{- with . }}
        topic: {{ . | quote }}
        {{- end }}
        lagThreshold: {{ $keda.lag | quote }}
        offsetResetPolicy: earliest
      {{- with $keda.authentication }}
      authenticationRef:
        name: {{ . }}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}
