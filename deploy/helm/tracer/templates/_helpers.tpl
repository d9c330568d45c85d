{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "tracer.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end }}

{{- define "tracer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tracer.labels" -}}
{{ include "tracer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What the options need, and no more: docs/privileges.md. */}}
{{- define "tracer.capabilities" -}}
- BPF
- PERFMON
- DAC_READ_SEARCH
{{- if ne (toString (get .Values.options "nri")) "off" }}
- SYS_NICE
{{- end }}
{{- if get .Values.options "processes" }}
- SYS_PTRACE
{{- end }}
{{- if .Values.resctrl.enabled }}
- DAC_OVERRIDE
{{- end }}
{{- end }}
