{{/* Whether event streams are committed by pods of their own: "true" or nothing. */}}
{{- define "ingest.runsStreamWorker" -}}
{{- $kafka := (.Values.global).kafka | default dict -}}
{{- $run := .Values.streamWorker.run -}}
{{- if and (eq $run "always") (not $kafka.bootstrap) -}}
{{- fail "ingest: streamWorker.run is always, and event streams need Kafka, but global.kafka.bootstrap names no broker. Set it, or leave streamWorker.run at auto." -}}
{{- end -}}
{{- if and (eq $run "never") $kafka.bootstrap (eq (toString (.Values.settings.streams).worker) "false") -}}
{{- fail "ingest: streamWorker.run is never and settings.streams.worker is false: rows of event streams would be acknowledged and get into no table. Change one of them." -}}
{{- end -}}
{{- if and (ne $run "never") $kafka.bootstrap }}true{{ end -}}
{{- end }}

{{/*
The worker as the library sees a component: ingest's own values below those of streamWorker, under a name of its own.
As a context, not as text: {Chart, Values, Release, Capabilities} is set in `.holder`.
*/}}
{{- define "ingest.streamWorker" -}}
{{- $root := .root -}}
{{- $same := pick $root.Values "global" "image" "settings" "secretSettings" "secretFiles" "spread" "serviceAccount"
      "priorityClassName" "nodeSelector" "tolerations" "affinity" "podLabels" "podAnnotations" "development" "sweep" -}}
{{- $values := mergeOverwrite (deepCopy $same) (deepCopy $root.Values.streamWorker) -}}
{{- $_ := set $values.keda "group" (($values.settings.streams).group | default "lakegate-streams") -}}
{{- $_ = set $values.keda "topics" list -}}
{{- $chart := dict "Name" "stream-worker" "Version" $root.Chart.Version "AppVersion" $root.Chart.AppVersion -}}
{{- $_ = set .holder "Chart" $chart -}}
{{- $_ = set .holder "Values" $values -}}
{{- $_ = set .holder "Release" $root.Release -}}
{{- $_ = set .holder "Capabilities" $root.Capabilities -}}
{{- end }}

{{/* What it holds, what its engines take, and the process itself have to fit into the container's limit. */}}
{{- define "ingest.streamWorkerMemoryCheck" -}}
{{- $needed := add (include "ingest.streamMemory" .Values.settings) 200 -}}
{{- if lt (int (include "lakegate.mebibytes" .Values.resources.limits.memory)) (int $needed) -}}
{{- fail (printf "ingest: streamWorker.resources.limits.memory is %s, but what it holds (settings.streams.held_bytes), its engines (settings.engine.memory_bytes for each of settings.streams.commits_at_once) and the process itself need %dMi: it would be killed." .Values.resources.limits.memory $needed) -}}
{{- end -}}
{{- end }}

{{/* MiB that committing streams takes at most, by these settings. */}}
{{- define "ingest.streamMemory" -}}
{{- $engine := int64 ((.engine).memory_bytes | default 188743680) -}}
{{- $held := int64 ((.streams).held_bytes | default 402653184) -}}
{{- $atOnce := int ((.streams).commits_at_once | default 2) -}}
{{- div (add $held (mul $engine $atOnce)) 1048576 -}}
{{- end }}
