{{/*
Retention and sweeps of a service, once in a while, in place of the loops that each of its pods runs otherwise:
{root, configuration, warehouse}. The same image and settings.
*/}}
{{- define "lakegate.sweep" -}}
{{- $root := .root -}}
{{- $sweep := $root.Values.sweep -}}
{{- if $sweep.enabled -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ include "lakegate.shortened" (dict "text" (include "lakegate.name" $root) "ending" "-sweep" "most" 52) }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "lakegate.hookLabels" (dict "root" $root "component" "sweep") | nindent 4 }}
spec:
  schedule: {{ $sweep.schedule | quote }}
  # two at once would do no harm, nor any good
  concurrencyPolicy: Forbid
  # one that was missed is not made up for hours later
  startingDeadlineSeconds: 300
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels:
        {{- include "lakegate.hookLabels" (dict "root" $root "component" "sweep") | nindent 8 }}
    spec:
      # the next one of the schedule is the retry
      backoffLimit: 0
      activeDeadlineSeconds: {{ $sweep.deadlineSeconds }}
      template:
        metadata:
          labels:
            {{- include "lakegate.hookLabels" (dict "root" $root "component" "sweep") | nindent 12 }}
        spec:
          {{- include "lakegate.podDefaults" (dict "root" $root "serviceAccount" (include "lakegate.name" $root) "priorityClassName" $root.Values.priorityClassName) | nindent 10 }}
          restartPolicy: Never
          containers:
            - name: sweep
              image: {{ include "lakegate.image" $root }}
              imagePullPolicy: {{ include "lakegate.pullPolicy" $root }}
              args: [lakegate_{{ $root.Chart.Name }}.sweep]
              securityContext:
                {{- include "lakegate.containerSecurity" $root | nindent 16 }}
              envFrom:
                - configMapRef:
                    name: {{ include "lakegate.name" $root }}
              env:
                {{- include "lakegate.secretEnvironment" $root | nindent 16 }}
              resources:
                {{- toYaml $sweep.resources | nindent 16 }}
              volumeMounts:
                - name: tmp
                  mountPath: /tmp
                {{- include "lakegate.mounts" . | nindent 16 }}
          volumes:
            - name: tmp
              emptyDir:
                sizeLimit: 64Mi
            {{- include "lakegate.mountedVolumes" . | nindent 12 }}
{{- end }}
{{- end }}
