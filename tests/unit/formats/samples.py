"""Configurations that say everything that is mapped, one a system."""

NGINX = r"""
upstream ring { hash $request_uri consistent; server 127.0.0.1:81 weight=2; server 127.0.0.1:82 down; }
upstream modulo { hash "$uri x"; server 127.0.0.1:83; server 127.0.0.1:83 fail_timeout=20s max_fails=0; }
upstream addresses { ip_hash; server 127.0.0.1:81; }
upstream two { random two least_conn; server unix:/tmp.socket; server 127.0.0.1:82 max_conns=7; }
upstream any { random; server 127.0.0.1:81; }
upstream least { least_conn; server 127.0.0.1:81 weight=3 max_fails=3 fail_timeout=30s; server 127.0.0.1:82 backup; }
upstream times { least_time header; server 127.0.0.1:81; }
server {
    listen 8080 default_server;
    server_name x.example .y.example;
    proxy_connect_timeout 2s;
    location / { proxy_pass http://least/v1/; proxy_read_timeout 1m30s; }
    location = /exact { proxy_pass http://any; proxy_read_timeout 500ms; proxy_buffering off; }
}
server {
    listen 8080;
    listen 8443;
    server_name z.example;
    location ~* \.png$ { proxy_pass http://127.0.0.1:8081; }
    location ^~ /static { return 204; }
}
server { listen 8082; return 301 https://x.example; }
"""

PLUS = """
upstream plus {
    server a:80 slow_start=30s;
    server b:80 slow_start=30s weight=4;
    sticky cookie srv expires=1h;
}
"""

HAPROXY = """
backend ring
    balance uri
    hash-type consistent djb2 avalanche
    hash-balance-factor 150
    option httpchk GET /health
    timeout connect 3s
    timeout server 250
    server x 10.0.0.1:80 weight 3 check inter 2s rise 2 fall 4
    server y 10.0.0.2:80 maxconn 10 backup id 7
backend source
    balance source
    server x 10.0.0.1:80 slowstart 10s
backend source-ring
    balance source
    hash-type consistent
    server x 10.0.0.1:80
backend draws
    balance random(3)
    option allbackups
    server x 10.0.0.1:80 disabled
    server z 10.0.0.3:80
backend static
    balance static-rr
    server x 10.0.0.1:80 weight 0
    server y 10.0.0.2:80
backend plain
    server x 10.0.0.1:80
backend parameter
    balance url_param user
    hash-type map-based wt6
    server x 10.0.0.1:80
backend least
    balance leastconn
    server x 10.0.0.1:80
backend first
    balance first
    server x 10.0.0.1:80
"""

ENVOY = """
static_resources:
  clusters:
  - name: least
    connect_timeout: 1.5s
    type: STATIC
    lb_policy: LEAST_REQUEST
    leastRequestLbConfig:
      choiceCount: 3
      slow_start_config:
        slow_start_window: 60s
        aggression: {default_value: 2.0, runtime_key: x}
        min_weight_percent: {value: 20}
    outlier_detection: {consecutive_5xx: 3, interval: 5s, always_eject_one_host: true, consecutive_gateway_failure: 0}
    common_lb_config: {healthy_panic_threshold: {value: 30}, locality_weighted_lb_config: {}}
    health_checks:
    - {timeout: 1s, interval: 5s, healthy_threshold: 1, unhealthy_threshold: 2, http_health_check: {path: /health}}
    load_assignment:
      cluster_name: least
      policy: {overprovisioning_factor: 200}
      endpoints:
      - locality: {zone: a}
        load_balancing_weight: 3
        lb_endpoints:
        - endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}
        - endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}
          load_balancing_weight: 3
      - locality: {region: r, zone: b, sub_zone: s}
        priority: 1
        load_balancing_weight: 1
        lb_endpoints:
        - endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 80}}}
          health_status: UNHEALTHY
  - name: ring
    lb_policy: RING_HASH
    ring_hash_lb_config: {minimum_ring_size: 512, maximum_ring_size: 4096, hash_function: MURMUR_HASH_2}
    common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 120}}
    load_assignment:
      cluster_name: ring
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: "::1", port_value: 80}}}}]
  - name: maglev
    lb_policy: MAGLEV
    maglev_lb_config: {table_size: 251}
    load_assignment:
      cluster_name: maglev
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]
  - name: any
    lb_policy: RANDOM
  - name: turns
    round_robin_lb_config: {slow_start_config: {slow_start_window: 30s}}
  - name: full
    load_balancing_policy:
      policies:
      - typed_extension_config:
          name: least
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest
            selection_method: FULL_SCAN
            active_request_bias: {default_value: 1.5, runtime_key: z}
"""

HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: everything}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 30
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 60
      selectPolicy: Min
      tolerance: 50m
      policies: [{type: Pods, value: 4, periodSeconds: 60}, {type: Percent, value: 50, periodSeconds: 30}]
    scaleDown: {selectPolicy: Disabled}
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
  - type: ContainerResource
    containerResource: {name: memory, container: main, target: {type: AverageValue, averageValue: 500Mi}}
  - type: Pods
    pods: {metric: {name: queue}, target: {type: AverageValue, averageValue: "5"}}
  - type: Object
    object:
      metric: {name: rps, selector: {matchLabels: {a: b}}}
      describedObject: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: main}
      target: {type: Value, value: 2k}
  - type: External
    external: {metric: {name: lag}, target: {type: AverageValue, averageValue: 1500m}}
"""

HPA_V1 = """
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: old}
spec:
  scaleTargetRef: {kind: Deployment, name: web}
  maxReplicas: 9
  targetCPUUtilizationPercentage: 60
"""

KEDA = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: worker
  annotations: {autoscaling.keda.sh/paused-scale-in: "true"}
spec:
  scaleTargetRef: {name: worker, kind: StatefulSet}
  pollingInterval: 15
  cooldownPeriod: 60
  initialCooldownPeriod: 20
  idleReplicaCount: 0
  minReplicaCount: 2
  maxReplicaCount: 20
  fallback: {failureThreshold: 3, replicas: 6, behavior: currentReplicas}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {scaleDown: {stabilizationWindowSeconds: 90}}
    scalingModifiers: {formula: "max([q, p])", target: "7", activationTarget: "2"}
  triggers:
  - type: prometheus
    name: q
    metadata: {serverAddress: "http://prometheus:9090", query: sum(queue), threshold: "10", activationThreshold: "3"}
    authenticationRef: {name: secret}
  - type: kafka
    name: p
    metadata: {bootstrapServers: "kafka:9092", lagThreshold: "5", activationLagThreshold: "1", topic: t}
"""

KNATIVE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: functions}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/target: "20"
        autoscaling.knative.dev/min-scale: "2"
        autoscaling.knative.dev/window: 30s
        autoscaling.knative.dev/target-utilization-percentage: "80"
        autoscaling.knative.dev/metric-aggregation-algorithm: weighted-exponential
        serving.knative.dev/progress-deadline: 90s
    spec: {containerConcurrency: 10}
"""

RAY = """
applications:
- name: app
  deployments:
  - name: llm
    autoscaling_config:
      {min_replicas: 1, max_replicas: 8, target_ongoing_requests: 4, upscale_delay_s: 5, downscale_to_zero_delay_s: 900}
"""

TERRAFORM = """
variable "most" { default = 15 }
locals { warmup = 90 }

resource "aws_lb_target_group" "api" {
  name                          = "api"
  port                          = 8000
  protocol                      = "HTTP"
  load_balancing_algorithm_type = "weighted_random"
  slow_start                    = 60
  health_check {
    path     = "/health"
    interval = 15
    matcher  = "200-299"
  }
  stickiness {
    type            = "app_cookie"
    cookie_name     = "SESSION"
    cookie_duration = 600
  }
  target_group_health {
    unhealthy_state_routing { minimum_healthy_targets_percentage = "20" }
  }
}

resource "aws_lb_target_group" "blue" {
  name                          = "blue"
  port                          = 80
  load_balancing_algorithm_type = "least_outstanding_requests"
}

resource "aws_lb_target_group_attachment" "one" {
  target_group_arn = aws_lb_target_group.api.arn
  target_id        = "i-1"
  port             = 8000
}

resource "aws_lb_listener_rule" "split" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 5
  condition {
    path_pattern { values = ["/predict*"] }
  }
  condition {
    http_header {
      http_header_name = "X-Tier"
      values           = ["gold"]
    }
  }
  condition {
    query_string {
      key   = "v"
      value = "2"
    }
  }
  action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.api.arn
        weight = 90
      }
      target_group {
        arn    = aws_lb_target_group.blue.arn
        weight = 10
      }
    }
  }
}

resource "aws_autoscaling_group" "gpu" {
  name                    = "gpu"
  min_size                = 2
  max_size                = var.most
  desired_capacity        = 3
  default_cooldown        = 200
  default_instance_warmup = local.warmup
  warm_pool {
    pool_state                  = "Running"
    min_size                    = 1
    max_group_prepared_capacity = 6
    instance_reuse_policy { reuse_on_scale_in = true }
  }
  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 2
      on_demand_percentage_above_base_capacity = 20
      spot_allocation_strategy                 = "lowest-price"
      spot_instance_pools                      = 3
    }
    launch_template {
      launch_template_specification { launch_template_id = "lt-1" }
      override { instance_type = "g4dn.xlarge" }
      override {
        instance_type     = "g5.xlarge"
        weighted_capacity = "2"
      }
    }
  }
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 80
      max_healthy_percentage = 120
      instance_warmup        = 30
      checkpoint_percentages = [20, 100]
      checkpoint_delay       = 600
    }
  }
}

resource "aws_autoscaling_policy" "track" {
  name                      = "track"
  autoscaling_group_name    = aws_autoscaling_group.gpu.name
  policy_type               = "TargetTrackingScaling"
  estimated_instance_warmup = 45
  target_tracking_configuration {
    predefined_metric_specification { predefined_metric_type = "ASGAverageCPUUtilization" }
    target_value     = 55.5
    disable_scale_in = true
  }
}

resource "aws_autoscaling_policy" "step" {
  name                     = "step"
  autoscaling_group_name   = aws_autoscaling_group.gpu.name
  policy_type              = "StepScaling"
  adjustment_type          = "PercentChangeInCapacity"
  min_adjustment_magnitude = 2
  metric_aggregation_type  = "Maximum"
  step_adjustment {
    scaling_adjustment          = 10
    metric_interval_lower_bound = 0
    metric_interval_upper_bound = 15
  }
  step_adjustment {
    scaling_adjustment          = 30
    metric_interval_lower_bound = 15
  }
}

resource "aws_cloudwatch_metric_alarm" "step" {
  alarm_name          = "step-alarm"
  metric_name         = "GPUUtilization"
  namespace           = "Custom/AI"
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  threshold           = 70
  comparison_operator = "GreaterThanOrEqualToThreshold"
  dimensions          = { AutoScalingGroupName = "gpu" }
  alarm_actions       = [aws_autoscaling_policy.step.arn]
}

resource "aws_autoscaling_policy" "simple" {
  name                   = "simple"
  autoscaling_group_name = aws_autoscaling_group.gpu.name
  adjustment_type        = "ChangeInCapacity"
  scaling_adjustment     = -1
  cooldown               = 120
}

resource "aws_cloudwatch_metric_alarm" "simple" {
  alarm_name          = "simple-alarm"
  metric_name         = "GPUUtilization"
  namespace           = "Custom/AI"
  statistic           = "Average"
  period              = 120
  evaluation_periods  = 5
  threshold           = 20
  comparison_operator = "LessThanThreshold"
  alarm_actions       = [aws_autoscaling_policy.simple.arn]
}

resource "aws_autoscaling_policy" "ahead" {
  name                   = "ahead"
  autoscaling_group_name = aws_autoscaling_group.gpu.name
  policy_type            = "PredictiveScaling"
  predictive_scaling_configuration {
    mode                         = "ForecastAndScale"
    scheduling_buffer_time       = 600
    max_capacity_breach_behavior = "IncreaseMaxCapacity"
    max_capacity_buffer          = 10
    metric_specification {
      target_value = 40
      predefined_metric_pair_specification { predefined_metric_type = "ASGCPUUtilization" }
    }
  }
}

resource "aws_autoscaling_schedule" "open" {
  scheduled_action_name  = "open"
  autoscaling_group_name = aws_autoscaling_group.gpu.name
  recurrence             = "0 9 * * MON-FRI"
  time_zone              = "Europe/Berlin"
  min_size               = 6
  max_size               = -1
  desired_capacity       = -1
  start_time             = "2027-01-01T00:00:00Z"
}
"""
