# CPU servers for /api/: half of the peak is on the calendar, target tracking does the rest.

resource "aws_launch_template" "api" {
  name          = "ai-api-template"
  image_id      = "ami-web"
  instance_type = "t3.medium"
}

resource "aws_autoscaling_group" "api" {
  name                = "ai-api-asg"
  min_size            = 2
  max_size            = 20
  vpc_zone_identifier = var.private_subnets

  launch_template {
    id      = aws_launch_template.api.id
    version = "$Latest"
  }
}

resource "aws_autoscaling_policy" "api_cpu" {
  name                      = "api-cpu-target"
  autoscaling_group_name    = aws_autoscaling_group.api.name
  policy_type               = "TargetTrackingScaling"
  estimated_instance_warmup = 60

  target_tracking_configuration {
    target_value = 60

    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}

# Before the first people come on a Monday, and on every other working day.
resource "aws_autoscaling_schedule" "business_hours" {
  scheduled_action_name  = "business-hours"
  autoscaling_group_name = aws_autoscaling_group.api.name
  recurrence             = "0 9 * * MON-FRI"
  min_size               = 10
  max_size               = 20
}

resource "aws_autoscaling_schedule" "nights" {
  scheduled_action_name  = "nights"
  autoscaling_group_name = aws_autoscaling_group.api.name
  recurrence             = "0 20 * * *"
  min_size               = 2
  max_size               = 20
}
