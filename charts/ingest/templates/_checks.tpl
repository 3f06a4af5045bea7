{{/* The engine's memory and what the process needs besides have to fit into the container's limit. */}}
{{- define "ingest.memoryCheck" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $mib := ternary (mul (int (trimSuffix "Gi" $limit)) 1024) (int (trimSuffix "Mi" $limit)) (hasSuffix "Gi" $limit) -}}
{{- $engine := int64 ((.Values.settings.engine).memory_bytes | default 188743680) -}}
{{- $workers := int ((.Values.settings.job).workers | default 1) -}}
{{- $needed := add (div (mul $engine $workers) 1048576) 200 -}}
{{- if lt (int $mib) (int $needed) -}}
{{- fail (printf "ingest: resources.limits.memory is %s, but %d worker(s) with %d MiB each (settings.engine.memory_bytes) and the process itself need %dMi: loads would be killed." $limit $workers (div $engine 1048576) $needed) -}}
{{- end -}}
{{- end }}
