{{- define "lakegate.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
spec:
  type: ClusterIP
  selector:
    {{- include "lakegate.selector" . | nindent 4 }}
  ports:
    {{- $ports := include "lakegate.ports" .Chart.Name | fromYaml }}
    - name: http
      port: {{ $ports.api }}
      targetPort: http
      appProtocol: http
    - name: management
      port: {{ $ports.management }}
      targetPort: management
      appProtocol: http
{{- end }}

{{- define "lakegate.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{- define "lakegate.disruption" -}}
{{- if .Values.disruption.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .Values.disruption.maxUnavailable }}
  # a pod that isn't ready serves nobody, and must not stop a node from being drained
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "lakegate.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "lakegate.serviceMonitor" -}}
{{- $monitoring := (.Values.global).monitoring | default dict -}}
{{- if $monitoring.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
    {{- with $monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # job="gateway", whatever the release is called
  jobLabel: app.kubernetes.io/component
  targetLabels:
    - app.kubernetes.io/component
    {{- if include "lakegate.colour" . }}
    - lakegate.io/colour
    {{- end }}
  selector:
    matchLabels:
      {{- include "lakegate.selector" . | nindent 6 }}
  endpoints:
    - port: management
      path: /metrics
      interval: {{ $monitoring.interval | default "15s" }}
      scrapeTimeout: 5s
{{- end }}
{{- end }}

{{/* For pods that no Service leads to. */}}
{{- define "lakegate.podMonitor" -}}
{{- $monitoring := (.Values.global).monitoring | default dict -}}
{{- if $monitoring.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "lakegate.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
    {{- with $monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  jobLabel: app.kubernetes.io/component
  podTargetLabels:
    - app.kubernetes.io/component
    {{- if include "lakegate.colour" . }}
    - lakegate.io/colour
    {{- end }}
  selector:
    matchLabels:
      {{- include "lakegate.selector" . | nindent 6 }}
  podMetricsEndpoints:
    - port: management
      path: /metrics
      interval: {{ $monitoring.interval | default "15s" }}
      scrapeTimeout: 5s
{{- end }}
{{- end }}
