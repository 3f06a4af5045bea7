{{/* What a schema can't say, each with a sentence that says what to do: {root, warehouse, place: where its values are}. */}}
{{- define "lakegate.checks" -}}
{{- $values := .root.Values -}}
{{- $name := .place | default .root.Chart.Name -}}
{{- $global := $values.global | default dict -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled -}}
{{- fail (printf "%s: autoscaling and keda are both enabled, and each would undo what the other does. Enable one of them." $name) -}}
{{- end -}}
{{- if and $values.keda.enabled (not ($global.kafka).bootstrap) -}}
{{- fail (printf "%s: keda scales by the lag of a Kafka consumer group, and global.kafka.bootstrap names no broker. Set it, or use autoscaling." $name) -}}
{{- end -}}
{{- if and $values.keda.enabled (not $values.keda.group) -}}
{{- fail (printf "%s: keda is enabled, but this service consumes no topic (%s.keda.group is empty). Use autoscaling." $name $name) -}}
{{- end -}}
{{- if and $values.keda.enabled (include "lakegate.colour" .root) -}}
{{- fail (printf "%s: keda is enabled in a release of a colour. It would start pods of the colour that a rollout has scaled to zero, since both have the lag of one group. Use autoscaling." $name) -}}
{{- end -}}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) -}}
{{- fail (printf "%s: autoscaling.minReplicas (%v) is more than maxReplicas (%v)." $name $values.autoscaling.minReplicas $values.autoscaling.maxReplicas) -}}
{{- end -}}
{{- $least := int $values.replicas -}}
{{- if $values.autoscaling.enabled }}{{- $least = int $values.autoscaling.minReplicas }}{{ end -}}
{{- if $values.keda.enabled }}{{- $least = int $values.keda.minReplicas }}{{ end -}}
{{- if and (eq ($global.environment | default "dev") "prod") (lt $least 2) -}}
{{- fail (printf "%s: production with a single pod stops at every node drain. Set %s.replicas (or the minReplicas of autoscaling or keda) to 2 or more." $name $name) -}}
{{- end -}}
{{- if and (eq ($global.environment | default "dev") "prod") $values.development.sync -}}
{{- fail (printf "%s: development.sync runs code that can be changed in the pod; that is for development, not for production." $name) -}}
{{- end -}}
{{- include "lakegate.resourcesCheck" (dict "place" (printf "%s.resources" $name) "resources" $values.resources) -}}
{{- include "lakegate.resourcesCheck" (dict "place" (printf "%s.sweep.resources" .root.Chart.Name) "resources" $values.sweep.resources) -}}
{{- with $values.migration -}}
{{- include "lakegate.resourcesCheck" (dict "place" (printf "%s.migration.resources" $name) "resources" .resources) -}}
{{- end -}}
{{- include "lakegate.labelsCheck" (dict "place" (printf "%s.podLabels" $name) "labels" $values.podLabels) -}}
{{- include "lakegate.labelsCheck" (dict "place" (printf "%s.podAnnotations" $name) "labels" $values.podAnnotations) -}}
{{- include "lakegate.labelsCheck" (dict "place" "global.monitoring.labels" "labels" ($global.monitoring).labels) -}}
{{- if and $values.disruption.enabled (lt (int (trimSuffix "%" (toString $values.disruption.maxUnavailable))) 1) -}}
{{- fail (printf "%s: disruption.maxUnavailable is %v: no pod could ever be evicted, and a node drain would wait for ever. Set it to 1 or more, or %s.disruption.enabled=false." $name $values.disruption.maxUnavailable $name) -}}
{{- end -}}
{{- $drain := $values.drain -}}
{{- /* 35 s: what a service gives to requests under way, the longest of which waits 30 s for its load */ -}}
{{- $needed := add $drain.preStopSeconds (ceil $drain.seconds) 35 -}}
{{- if lt (int $drain.graceSeconds) (int $needed) -}}
{{- fail (printf "%s: drain.graceSeconds is %v, but a pod may need %d s to end: %v (preStopSeconds) + %v (seconds) + 35 (the longest request). Requests would be cut off." $name $drain.graceSeconds $needed $drain.preStopSeconds $drain.seconds) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .root.Release.Name) -}}
{{- fail (printf "the release is called %s, and its Services would be, too: such a name begins with a letter, and has no dot." .root.Release.Name) -}}
{{- end -}}
{{- if not (has (include "lakegate.colour" .root) (list "" "blue" "green")) -}}
{{- fail (printf "global.colour is %q: it is blue or green in a release of a colour, and empty in a plain install." $global.colour) -}}
{{- end -}}
{{- range $path, $secret := $values.secretSettings -}}
{{- $section := regexSplit "\\." $path 2 | first -}}
{{- if hasKey (get $values.settings $section | default dict) (last (splitList "." $path)) -}}
{{- fail (printf "%s: %s is in settings and in secretSettings. Name it once." $name $path) -}}
{{- end -}}
{{- end -}}
{{- if .warehouse -}}
{{- include "lakegate.warehouseChecks" .root -}}
{{- end -}}
{{- end }}

{{- define "lakegate.warehouseChecks" -}}
{{- $warehouse := (.Values.global).warehouse | default dict -}}
{{- if not $warehouse.location -}}
{{- fail "global.warehouse.location is not set: name where tables are kept, as s3://bucket/folder, or file:///var/lib/lakegate/warehouse with global.warehouse.claim." -}}
{{- end -}}
{{- $folder := include "lakegate.warehouseFolder" . -}}
{{- if and (hasPrefix "file:" $warehouse.location) (not (hasPrefix "/" $folder)) -}}
{{- fail (printf "global.warehouse.location is %q: a folder is written with three slashes, as file:///var/lib/lakegate/warehouse." $warehouse.location) -}}
{{- end -}}
{{- if and $folder (not $warehouse.claim) -}}
{{- fail (printf "global.warehouse.location is the folder %s, which catalog and ingest share: name its volume in global.warehouse.claim, or use an object store (s3://…)." $folder) -}}
{{- end -}}
{{- if and (not $folder) $warehouse.claim -}}
{{- fail (printf "global.warehouse.claim is %q, but the warehouse is %s, which needs no volume. Set the claim to \"\"." $warehouse.claim $warehouse.location) -}}
{{- end -}}
{{- end }}
