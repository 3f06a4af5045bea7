{{/* Large loads as Jobs. `global.loadJobs.enabled`, since the policies of the base have to know of it, too. */}}
{{- define "ingest.loadJobs" -}}
{{- if ((.Values.global).loadJobs).enabled }}true{{ end -}}
{{- end }}

{{/*
Also the beginning of each Job's name: 30 characters, a dash and the load's 32 are what a label can hold. The release
stays whole, or else a digest tells it from others: the other colour's may begin alike.
*/}}
{{- define "ingest.loadJobName" -}}
{{- $name := include "lakegate.name" . -}}
{{- if le (len .Release.Name) 25 }}{{ $name = trunc 25 $name | trimSuffix "-" }}{{ end -}}
{{- include "lakegate.shortened" (dict "text" $name "ending" "-load" "most" 30) -}}
{{- end }}

{{- define "ingest.loadJobChecks" -}}
{{- if empty .Values.loadJobs.sizes -}}
{{- fail "ingest: loadJobs.sizes is empty: name the resources of a worker for at least one size." -}}
{{- end -}}
{{- range $index, $_ := .Values.loadJobs.sizes -}}
{{- include "lakegate.resourcesCheck" (dict "place" (printf "ingest.loadJobs.sizes[%d].resources" $index) "resources" .resources) -}}
{{- $limit := .resources.limits.memory -}}
{{- $mib := include "lakegate.mebibytes" $limit -}}
{{- if lt (int $mib) (int (add .engineMib 200)) -}}
{{- fail (printf "ingest: a worker of loadJobs.sizes (fromGib %v) has %s, but its engine takes %v MiB and the process itself 200: it would be killed." .fromGib $limit .engineMib) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ingest.loadJobResources" -}}
{{- if include "ingest.loadJobs" . }}
---
# what ingest makes a Job of, for each load; the load's name, its size and its arguments are added there
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "ingest.loadJobName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
data:
  {{- $sizes := list }}
  {{- range .Values.loadJobs.sizes }}
  {{- $sizes = append $sizes (dict
        "least_bytes" (int64 (mulf .fromGib 1073741824))
        "resources" .resources
        "memory_bytes" (int64 (mul .engineMib 1048576))
        "threads" .threads) }}
  {{- end }}
  job.json: {{ dict
      "manifest" (include "ingest.loadJob" . | fromYaml)
      "sizes" $sizes
      "spool_times" .Values.loadJobs.spoolTimes | toJson | quote }}
---
# exactly what ingest does: it knows the name of a load's Job, so it need not list; create can't be held to names
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ include "ingest.loadJobName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
rules:
  - apiGroups: [batch]
    resources: [jobs]
    verbs: [create, get, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "ingest.loadJobName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "ingest.loadJobName" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "lakegate.name" . }}
    namespace: {{ .Release.Namespace }}
---
# a worker's own: it has no rights at all, and no token
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "ingest.loadJobName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- if .Values.loadJobs.admissionPolicy }}
{{- include "ingest.loadJobPolicy" . }}
{{- end }}
{{- end }}
{{- end }}

{{/*
What RBAC can't say: a Job of ingest's account has the account, the Secrets and the volumes of the manifest above. Not its
image: pods of an upgraded release make Jobs by the older file for a while, and what a pod may read is held here anyway.
*/}}
{{- define "ingest.loadJobPolicy" -}}
{{- $name := printf "%s.%s" (include "ingest.loadJobName" .) .Release.Namespace }}
{{- $pod := (include "ingest.loadJob" . | fromYaml).spec.template.spec }}
{{- $secrets := list }}
{{- $claims := list }}
{{- range (first $pod.containers).env }}
{{- with (.valueFrom).secretKeyRef }}{{- $secrets = append $secrets .name }}{{ end }}
{{- end }}
{{- range $pod.volumes }}
{{- with .secret }}{{- $secrets = append $secrets .secretName }}{{ end }}
{{- with .persistentVolumeClaim }}{{- $claims = append $claims .claimName }}{{ end }}
{{- end }}
{{- $secrets = $secrets | uniq | sortAlpha | toJson }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {{ .Release.Namespace }}
    resourceRules:
      - apiGroups: [batch]
        apiVersions: [v1]
        operations: [CREATE, UPDATE]
        resources: [jobs]
  matchConditions:
    - name: made-by-ingest
      expression: request.userInfo.username == "system:serviceaccount:{{ .Release.Namespace }}:{{ include "lakegate.name" . }}"
  variables:
    - name: pod
      expression: object.spec.template.spec
    - name: containers
      expression: variables.pod.containers + variables.pod.?initContainers.orValue([])
    - name: secrets
      expression: {{ $secrets | quote }}
  validations:
    - expression: variables.pod.?serviceAccountName.orValue("default") == {{ include "ingest.loadJobName" . | quote }}
      message: a load's Job runs as {{ include "ingest.loadJobName" . }}, which has no rights
    - expression: >-
        variables.containers.all(container,
        container.?env.orValue([]).all(variable, !has(variable.valueFrom) || !has(variable.valueFrom.secretKeyRef)
        || variable.valueFrom.secretKeyRef.name in variables.secrets)
        && container.?envFrom.orValue([]).all(source, !has(source.secretRef)))
      message: a load's Job has no variables of other Secrets than a load needs
    - expression: >-
        variables.pod.?volumes.orValue([]).all(volume, has(volume.emptyDir) || has(volume.configMap)
        || (has(volume.secret) && volume.secret.secretName in variables.secrets)
        || (has(volume.persistentVolumeClaim) && volume.persistentVolumeClaim.claimName in {{ $claims | toJson }}))
      message: a load's Job mounts no other Secrets and volumes than a load needs
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "lakegate.labels" . | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
{{- end }}

{{- define "ingest.loadJob" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "ingest.loadJobName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "lakegate.hookLabels" (dict "root" . "component" "worker") | nindent 4 }}
spec:
  backoffLimit: {{ .Values.loadJobs.backoffLimit }}
  activeDeadlineSeconds: {{ .Values.loadJobs.deadlineSeconds }}
  ttlSecondsAfterFinished: {{ .Values.loadJobs.ttlSeconds }}
  # a drained node is no fault of the load's
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
  template:
    metadata:
      labels:
        {{- include "lakegate.hookLabels" (dict "root" . "component" "worker") | nindent 8 }}
    spec:
      {{- include "lakegate.podDefaults" (dict "root" . "serviceAccount" (include "ingest.loadJobName" .) "priorityClassName" .Values.loadJobs.priorityClassName) | nindent 6 }}
      restartPolicy: Never
      # a worker that is told to end lets go of its load first
      terminationGracePeriodSeconds: 30
      {{- with .Values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: worker
          image: {{ include "lakegate.image" . }}
          imagePullPolicy: {{ include "lakegate.pullPolicy" . }}
          args: [lakegate_ingest.worker]
          securityContext:
            {{- include "lakegate.containerSecurity" . | nindent 12 }}
          envFrom:
            - configMapRef:
                name: {{ include "lakegate.name" . }}
          env:
            {{- include "lakegate.secretEnvironment" . | nindent 12 }}
          resources:
            {{- toYaml (first .Values.loadJobs.sizes).resources | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            - name: spool
              mountPath: /var/lib/lakegate/spool
            {{- include "lakegate.mounts" (dict "root" . "warehouse" true) | nindent 12 }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: {{ .Values.tmpSize }}
        - name: spool
          emptyDir: {}
        {{- include "lakegate.mountedVolumes" (dict "root" . "warehouse" true) | nindent 8 }}
{{- end }}
