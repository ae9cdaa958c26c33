# The same GPU servers bought otherwise: two on demand, of the others one in five, the rest spot. A group of its own:
# AWS keeps no warm pool beside spot.

resource "aws_autoscaling_group" "gpu_mixed" {
  name                = "ai-gpu-mixed"
  min_size            = 2
  max_size            = 15
  desired_capacity    = 3
  vpc_zone_identifier = var.private_subnets

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 2
      on_demand_percentage_above_base_capacity = 20
      spot_allocation_strategy                 = "lowest-price"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.gpu.id
        version            = "$Latest"
      }

      override { instance_type = "g4dn.xlarge" }
      override { instance_type = "g4dn.2xlarge" }
      override { instance_type = "g5.xlarge" }
    }
  }
}

resource "aws_autoscaling_policy" "gpu_mixed_utilization" {
  name                   = "gpu-mixed-target"
  autoscaling_group_name = aws_autoscaling_group.gpu_mixed.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = 65

    customized_metric_specification {
      metric_name = "GPUUtilization"
      namespace   = "Custom/AI"
      statistic   = "Average"
    }
  }
}
