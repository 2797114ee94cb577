{{- define "carryover.name" -}}
{{- if contains "carryover" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-carryover" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "carryover.selector" -}}
app.kubernetes.io/name: carryover
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "carryover.labels" -}}
{{ include "carryover.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "carryover.account" -}}
{{ .Values.serviceAccount.name | default (ternary (include "carryover.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* The settings: those of the values, and what the chart mounts and listens on. */}}
{{- define "carryover.settings" -}}
{{- $settings := deepCopy .Values.config }}
{{- $own := dict "host" "0.0.0.0" "port" 50051 "health_port" 50052 "metrics_port" 9464 }}
{{- if .Values.http.enabled }}{{ $_ := set $own "http_port" 8080 }}{{ end }}
{{- $_ := set $own "tls" (dict "certificate" "/etc/carryover/tls/tls.crt" "key" "/etc/carryover/tls/tls.key") }}
{{- if .Values.tls.clientCaSecret }}{{ $_ := set $own.tls "client_ca" "/etc/carryover/client-ca/ca.crt" }}{{ end }}
{{- $_ := set $own "access" (dict "keys_file" "/etc/carryover/keys/keys") }}
{{- if .Values.gpu.enabled }}{{ $_ := set $own "model" (dict "device" .Values.gpu.device) }}{{ end }}
{{- if .Values.kmsKey }}{{ $_ := set $own "store" (dict "kms_key" .Values.kmsKey) }}
{{- else if eq (dig "store" "endpoint" "local" $settings) "aws" }}
{{- fail "kmsKey: give the ARN of a KMS key, which wraps the dialogues' keys; replicas at AWS share no other" }}
{{- end }}
{{- mergeOverwrite $settings $own | toToml }}
{{- end }}
