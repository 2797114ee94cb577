// Reads resources of the Prometheus operator as a JSON list, and exits with 1 where one does not fit its schema.
import { readFileSync } from 'node:fs'
import { PrometheusRule, ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'

const kinds = { PrometheusRule, ServiceMonitor }
for (const resource of JSON.parse(readFileSync(0, 'utf8'))) new kinds[resource.kind](resource).validate()
