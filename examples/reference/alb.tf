# The same routes at an Application Load Balancer, with health checks, sessions and slow start.

resource "aws_lb" "front" {
  name               = "ai-app-alb"
  internal           = false
  load_balancer_type = "application"
  subnets            = var.public_subnets
  security_groups    = [aws_security_group.alb.id]
}

resource "aws_lb_target_group" "api" {
  name     = "ai-api-tg"
  port     = 8000
  protocol = "HTTP"
  vpc_id   = var.vpc_id

  health_check {
    path                = "/health"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3 # three looks, 15 s apart: a dead server is chosen for 45 s
  }

  stickiness {
    type            = "lb_cookie"
    cookie_duration = 3600
  }
}

resource "aws_lb_target_group" "inference" {
  name       = "ai-inference-tg"
  port       = 8080
  protocol   = "HTTP"
  vpc_id     = var.vpc_id
  slow_start = 120 # a GPU that has just loaded its model gets its share by and by

  health_check {
    path     = "/health"
    interval = 30
    timeout  = 10
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.front.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.api.arn
  }
}

resource "aws_lb_listener_rule" "inference" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10

  condition {
    path_pattern { values = ["/predict*", "/stream*"] }
  }

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.inference.arn
  }
}
