{{/*
Brings the schemas of this release up to date before anything else of it changes. Safe to repeat and to run twice at
once (a lock in PostgreSQL), and a release that is older than the database leaves it alone.
*/}}
{{- define "lakegate.migration" -}}
{{- if .Values.migration.enabled -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "lakegate.shortened" (dict "text" (include "lakegate.name" .) "ending" "-migrate" "most" 63) }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.hookLabels" (dict "root" . "component" "migrate") | nindent 4 }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    # after the roles and the database (-10)
    helm.sh/hook-weight: "-5"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 600
  # one that failed stays a day to be read
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels:
        {{- include "lakegate.hookLabels" (dict "root" . "component" "migrate") | nindent 8 }}
    spec:
      # the chart's own account doesn't exist yet before the first install
      {{- include "lakegate.podDefaults" (dict "root" . "serviceAccount" "default") | nindent 6 }}
      restartPolicy: Never
      containers:
        - name: migrate
          image: {{ include "lakegate.image" . }}
          imagePullPolicy: {{ include "lakegate.pullPolicy" . }}
          args: [lakegate_chassis.migrate, lakegate_chassis, lakegate_{{ .Chart.Name }}]
          securityContext:
            {{- include "lakegate.containerSecurity" . | nindent 12 }}
          env:
            {{- include "lakegate.secretVariable" (dict "name" "LAKEGATE_MIGRATE_URL" "secret" .Values.migration.secret) | nindent 12 }}
          resources:
            {{- toYaml .Values.migration.resources | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
{{- end }}
{{- end }}
