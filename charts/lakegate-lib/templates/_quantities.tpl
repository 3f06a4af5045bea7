{{/* Quantities of Kubernetes as numbers, and what a container asks for. */}}
{{- define "lakegate.mebibytes" -}}
{{- ternary (mul (int (trimSuffix "Gi" .)) 1024) (int (trimSuffix "Mi" .)) (hasSuffix "Gi" .) -}}
{{- end }}

{{- define "lakegate.millicores" -}}
{{- $text := toString . -}}
{{- ternary (int64 (trimSuffix "m" $text)) (int64 (round (mulf (float64 (trimSuffix "m" $text)) 1000) 0)) (hasSuffix "m" $text) -}}
{{- end }}

{{/* {place, resources}: a null takes defaults away, and the API server refuses a request above its limit. */}}
{{- define "lakegate.resourcesCheck" -}}
{{- $resources := .resources | default dict -}}
{{- range $part := list "requests" "limits" -}}
{{- range $name := list "cpu" "memory" -}}
{{- if not (get (get $resources $part | default dict) $name) -}}
{{- fail (printf "%s.%s.%s is not set: a container without it takes what others need, or is put where there is no room. Set requests and limits, as {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: \"1\", memory: 256Mi}}." $.place $part $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $number := dict "cpu" "lakegate.millicores" "memory" "lakegate.mebibytes" -}}
{{- $request := get $resources.requests $name -}}
{{- $limit := get $resources.limits $name -}}
{{- if gt (int64 (include $number $request)) (int64 (include $number $limit)) -}}
{{- fail (printf "%s.requests.%s is %v, which is more than limits.%s (%v): no pod could be made. Lower the request or raise the limit." $.place $name $request $name $limit) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* {place, labels}: the charts' own labels select pods; given twice, the later one would win. */}}
{{- define "lakegate.labelsCheck" -}}
{{- range $name, $_ := .labels -}}
{{- if regexMatch "^(app\\.kubernetes\\.io|helm\\.sh|lakegate\\.io|checksum)/" $name -}}
{{- fail (printf "%s names %s, which is the charts' own: Services, policies and rollouts find pods by it. Use a name of yours, as example.com/team." $.place $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
