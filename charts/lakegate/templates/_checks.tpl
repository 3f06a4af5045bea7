{{/* What only the whole can see. */}}
{{- define "suite.checks" -}}
{{- $services := list "gateway" "catalog" "ingest" "lineage" -}}
{{- $on := list -}}
{{- $off := list -}}
{{- range $services }}{{ if (get $.Values .).enabled }}{{ $on = append $on . }}{{ else }}{{ $off = append $off . }}{{ end }}{{ end -}}
{{- $base := .Values.base -}}
{{- if and $on $off -}}
{{- fail (printf "%s.enabled is false, but the gateway, catalog, ingest and lineage are one suite: what calls the missing one would fail, and `helm upgrade` would delete it where it runs. Enable all four; only the base of a blue/green installation has none (releases/base.yaml)." (join ".enabled and " $off)) -}}
{{- end -}}
{{- if and $base.enabled (not $on) (eq $base.mode "single") -}}
{{- fail "no service is enabled, and base.mode is single: the Service of the gateway would have no pods. The base of a blue/green installation has base.mode=blueGreen (releases/base.yaml)." -}}
{{- end -}}
{{- if and $base.enabled $on (eq $base.mode "blueGreen") -}}
{{- fail "base.mode is blueGreen in a release that has the services, too: the Service of the gateway would have no selector, and these pods no colour. Install the base by itself (releases/base.yaml), and the services as releases of their colour (releases/blue.yaml, releases/green.yaml): docs/install.md, \"Blue and green\"." -}}
{{- end -}}
{{- if and $base.enabled $base.networkPolicies.enabled (get (.Values.catalog.secretSettings | default dict) "store.mongodb.url") (empty ($base.networkPolicies.mongodb | default dict).to) -}}
{{- fail "catalog.secretSettings has store.mongodb.url, but base.networkPolicies.mongodb.to is empty: the default-deny policy would keep the catalog from it. Say where it is: base.networkPolicies.mongodb={to: [{ipBlock: {cidr: 10.0.0.5/32}}], ports: [27017]}." -}}
{{- end -}}
{{- if .Values.smokeTest.enabled -}}
{{- include "lakegate.resourcesCheck" (dict "place" "smokeTest.resources" "resources" .Values.smokeTest.resources) -}}
{{- end -}}
{{- if and $base.enabled .Release.IsUpgrade -}}
{{- include "suite.upgradeChecks" . -}}
{{- end -}}
{{- if $on -}}
{{- include "suite.colourChecks" . -}}
{{- end -}}
{{- end }}

{{/* From one layout to the other helm would delete what serves. Seen in an upgrade only: `helm template` asks no cluster. */}}
{{- define "suite.upgradeChecks" -}}
{{- if eq .Values.base.mode "blueGreen" -}}
{{- range $component := list "gateway" "catalog" "ingest" "lineage" "stream-worker" -}}
{{- $name := include "lakegate.sibling" (dict "root" $ "component" $component) -}}
{{- with lookup "apps/v1" "Deployment" $.Release.Namespace $name -}}
{{- $notes := .metadata.annotations | default dict -}}
{{- if and (eq (get $notes "meta.helm.sh/release-name") $.Release.Name) (ne (get $notes "helm.sh/resource-policy") "keep") -}}
{{- fail (printf "the release %s is a plain installation, and this upgrade to the base of a blue/green one would delete what serves: the Deployment %s and the others. Have them kept first, and deleted once a colour serves: docs/install.md, \"From plain to blue and green\"." $.Release.Name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- with lookup "v1" "Service" .Release.Namespace .Values.base.activeService -}}
{{- if eq (get (.metadata.annotations | default dict) "lakegate.io/switched-by") "rollout" -}}
{{- fail (printf "the release %s is the base of a blue/green installation, and this upgrade would take the Service %s from the colour that serves, for pods that are not there yet. Add -f charts/lakegate/releases/base.yaml. If a plain installation is meant: install it as a release of another namespace, and move clients there." $.Release.Name .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The colour is in the labels that the active Service selects by, and in the name that rollouts compare releases by. */}}
{{- define "suite.colourChecks" -}}
{{- $colour := include "lakegate.colour" . -}}
{{- $other := get (dict "blue" "green" "green" "blue") $colour -}}
{{- if and $colour (has $other (splitList "-" .Release.Name)) -}}
{{- fail (printf "global.colour is %s, and the release is called %s: the values file of the other colour was given, or the other release was meant (releases/%s.yaml)." $colour .Release.Name $other) -}}
{{- end -}}
{{- with lookup "apps/v1" "Deployment" .Release.Namespace (include "lakegate.sibling" (dict "root" . "component" "gateway")) -}}
{{- $there := get (.metadata.labels | default dict) "lakegate.io/colour" -}}
{{- if and (eq (get (.metadata.annotations | default dict) "meta.helm.sh/release-name") $.Release.Name) (ne $there $colour) -}}
{{- fail (printf "the release %s runs %s, and this upgrade would make it %s: a Service that leads to its pods would lead to none. Give the values file of its own colour, or of none for a plain installation; from plain to blue and green: docs/install.md." $.Release.Name (ternary (printf "as %s" $there) "in no colour" (ne $there "")) (ternary $colour "of no colour" (ne $colour ""))) -}}
{{- end -}}
{{- end -}}
{{- end }}
