{{/* The engine's memory and what the process needs besides have to fit into the container's limit. */}}
{{- define "ingest.memoryCheck" -}}
{{- include "lakegate.resourcesCheck" (dict "place" "ingest.resources" "resources" .Values.resources) -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $engine := int64 ((.Values.settings.engine).memory_bytes | default 188743680) -}}
{{- $workers := int ((.Values.settings.job).workers | default 1) -}}
{{- $needed := add (div (mul $engine $workers) 1048576) 200 -}}
{{- $streams := "" -}}
{{- if and (((.Values.global).kafka).bootstrap) (not (include "ingest.runsStreamWorker" .)) -}}
{{- $needed = add $needed (include "ingest.streamMemory" .Values.settings) -}}
{{- $streams = ", the streams that it commits (streamWorker.run is never)" -}}
{{- end -}}
{{- if lt (int (include "lakegate.mebibytes" $limit)) (int $needed) -}}
{{- fail (printf "ingest: resources.limits.memory is %s, but %d worker(s) with %d MiB each (settings.engine.memory_bytes)%s and the process itself need %dMi: loads would be killed." $limit $workers (div $engine 1048576) $streams $needed) -}}
{{- end -}}
{{- end }}
