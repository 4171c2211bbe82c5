{{- define "finetune-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut to 52 so that the longest suffix still fits into a name of 63. */}}
{{- define "finetune-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of what has no namespace. Of installations with namespaces of their own there may be several in a cluster, also of
the same release name; of those that work in all namespaces one, and Helm refuses to take over another's objects. */}}
{{- define "finetune-operator.clusterName" -}}
{{ include "finetune-operator.fullname" . }}{{ if .Values.watch.namespaces }}-{{ .Release.Namespace }}{{ end }}
{{- end -}}

{{/* Of each release: two of them in one namespace must not wait for each other. */}}
{{- define "finetune-operator.leaseName" -}}
{{ if contains "finetune-operator" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-finetune-operator{{ end }}
{{- end -}}

{{- define "finetune-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "finetune-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "finetune-operator.labels" -}}
{{ include "finetune-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "finetune-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "finetune-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Arguments: image values, default tag. */}}
{{- define "finetune-operator.image" -}}
{{- $image := index . 0 -}}
{{- $tag := default (index . 1) $image.tag -}}
{{- $image.repository }}:{{ $tag }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "finetune-operator.progressHost" -}}
{{ include "finetune-operator.fullname" . }}-progress.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "finetune-operator.progressUrl" -}}
{{- $tls := .Values.progress.tls.enabled -}}
{{- if and $tls (hasPrefix "http://" .Values.progress.url) -}}
{{- fail "progress.url is plain http: write https://, or set progress.tls.enabled to false" -}}
{{- end -}}
{{- default (printf "%s://%s" (ternary "https" "http" $tls) (include "finetune-operator.progressHost" .)) .Values.progress.url -}}
{{- end -}}

{{- define "finetune-operator.certificateName" -}}
{{ include "finetune-operator.fullname" . }}-tls
{{- end -}}

{{/* Whether progress reports come over TLS with the certificate of this chart. */}}
{{- define "finetune-operator.progressCertificate" -}}
{{- if and .Values.progress.tls.enabled (not .Values.progress.tls.secretName) }}true{{ end -}}
{{- end -}}

{{/* Whether anything shows the certificate of this chart. */}}
{{- define "finetune-operator.needsCertificate" -}}
{{- if or .Values.webhooks.enabled (include "finetune-operator.progressCertificate" .) }}true{{ end -}}
{{- end -}}

{{/* By which API server and training pods reach the operator. */}}
{{- define "finetune-operator.certificateNames" -}}
{{- if .Values.webhooks.enabled }}
- {{ include "finetune-operator.webhooksName" . }}.{{ .Release.Namespace }}.svc
{{- end }}
{{- if include "finetune-operator.progressCertificate" . }}
- {{ (urlParse (include "finetune-operator.progressUrl" .)).hostname }}
{{- end }}
{{- end -}}

{{- define "finetune-operator.webhooksName" -}}
{{ include "finetune-operator.fullname" . }}-webhooks
{{- end -}}

{{- define "finetune-operator.webhookConfigurationName" -}}
{{ include "finetune-operator.clusterName" . }}-webhooks
{{- end -}}

{{/* Those that are both watched and selected. */}}
{{- define "finetune-operator.judgedNamespaces" -}}
{{- $selector := deepCopy .Values.webhooks.namespaceSelector -}}
{{- with .Values.watch.namespaces -}}
{{- $watched := dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" . -}}
{{- $_ := set $selector "matchExpressions" (prepend (default list $selector.matchExpressions) $watched) -}}
{{- end -}}
{{- if $selector }}{{ toYaml $selector }}{{ end -}}
{{- end -}}

{{/* Arguments: root, name, path, failurePolicy, resources. */}}
{{- define "finetune-operator.webhook" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}.finetune-operator.io
clientConfig:
  service:
    name: {{ include "finetune-operator.webhooksName" $root }}
    namespace: {{ $root.Release.Namespace }}
    path: /{{ index . 2 }}
    port: 443
rules:
  - apiGroups: [finetune-operator.io]
    apiVersions: [v1alpha1]
    operations: [CREATE, UPDATE]
    resources: {{ index . 4 }}
    scope: "*"
{{- with include "finetune-operator.judgedNamespaces" $root }}
namespaceSelector:
  {{- . | nindent 2 }}
{{- end }}
failurePolicy: {{ index . 3 }}
timeoutSeconds: {{ $root.Values.webhooks.timeoutSeconds }}
sideEffects: None
admissionReviewVersions: [v1]
{{- end -}}

{{/* What the operator does in the namespaces that it works in: no more than this, no data of Secrets, no wildcards. */}}
{{- define "finetune-operator.namespacedRules" -}}
- apiGroups: [finetune-operator.io]
  resources: [finetunejobs]
  verbs: [get, list, watch, delete] # delete: ttlSecondsAfterFinished
- apiGroups: [finetune-operator.io]
  resources: [trainingruntimes]
  verbs: [get, list, watch]
- apiGroups: [finetune-operator.io]
  resources: [modelversions, modeldeployments]
  verbs: [get, list, watch, create]
- apiGroups: [finetune-operator.io]
  resources: [finetunejobs/status, modelversions/status, modeldeployments/status]
  verbs: [patch]
- apiGroups: [finetune-operator.io]
  # Owner references that block deletion need this where OwnerReferencesPermissionEnforcement is on (OpenShift).
  resources: [finetunejobs/finalizers, modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create] # the account without rights of the training pods
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete] # delete: shared ones that no gang needs any more
- apiGroups: [scheduling.volcano.sh, scheduling.x-k8s.io, scheduling.k8s.io]
  resources: [podgroups]
  verbs: [get, create]
- apiGroups: [kueue.x-k8s.io]
  resources: [localqueues]
  verbs: [get] # that a job's queue exists
- apiGroups: [""]
  resources: [persistentvolumeclaims, resourcequotas]
  verbs: [get, list, watch] # that they exist, and leave room
{{- if .Values.secretLookup.enabled }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get] # that they exist: their metadata alone is asked for
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete] # delete: the rest of a gang that lost a pod
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [list] # why pods do not start
{{- end -}}
