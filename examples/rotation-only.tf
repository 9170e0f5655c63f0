# A TLS-passthrough service that Terraform owns, with the spec of the stack whose certificates Espalier rotates
# (`"manage": "rotation"`). Espalier reads these resources, compares them with the spec, and changes none of them; an
# instance that is registered and not selected, or the other way round, is told as a block.
#
# terraform init && terraform apply -var-file=payments.tfvars

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

variable "vpc_id" { type = string }
variable "subnet_ids" { type = list(string) }
variable "zone_id" { type = string }
variable "instance_ids" { type = list(string) }

variable "client_group_ids" {
  description = "who may connect from the VPC: security groups of its association with the service network"
  type        = list(string)
}

variable "target_group_sg_id" {
  description = "the targets' security group"
  type        = string
}

variable "prober_sg_id" {
  description = "ProberSecurityGroupIds of the control plane, or of the prober.yaml in this VPC (the spec then names it: prober.name)"
  type        = string
}

variable "domain_name" {
  type    = string
  default = "payments.example.com"
}

locals {
  stack = "payments"
  port  = 443
}

data "aws_region" "here" {}

data "aws_ec2_managed_prefix_list" "lattice" {
  name = "com.amazonaws.${data.aws_region.here.name}.vpc-lattice"
}

data "aws_ec2_managed_prefix_list" "lattice_ipv6" {
  name = "com.amazonaws.${data.aws_region.here.name}.ipv6.vpc-lattice"
}

resource "aws_vpclattice_service_network" "this" {
  name      = "${local.stack}-network"
  auth_type = "NONE"
}

resource "aws_vpclattice_service_network_vpc_association" "this" {
  service_network_identifier = aws_vpclattice_service_network.this.id
  vpc_identifier             = var.vpc_id
  security_group_ids         = var.client_group_ids
}

resource "aws_vpclattice_service" "this" {
  name               = local.stack
  auth_type          = "NONE"
  custom_domain_name = var.domain_name
}

resource "aws_vpclattice_service_network_service_association" "this" {
  service_network_identifier = aws_vpclattice_service_network.this.id
  service_identifier         = aws_vpclattice_service.this.id
}

resource "aws_vpclattice_target_group" "this" {
  name = "${local.stack}-tcp"
  type = "INSTANCE"

  config {
    protocol       = "TCP"
    port           = local.port
    vpc_identifier = var.vpc_id

    health_check {
      enabled = false
    }
  }
}

resource "aws_vpclattice_target_group_attachment" "this" {
  for_each                = toset(var.instance_ids)
  target_group_identifier = aws_vpclattice_target_group.this.id

  target {
    id   = each.value
    port = local.port
  }
}

resource "aws_vpclattice_listener" "this" {
  name               = "${local.stack}-tls"
  protocol           = "TLS_PASSTHROUGH"
  port               = local.port
  service_identifier = aws_vpclattice_service.this.id

  default_action {
    forward {
      target_groups {
        target_group_identifier = aws_vpclattice_target_group.this.id
        weight                  = 100
      }
    }
  }
}

resource "aws_route53_record" "this" {
  zone_id = var.zone_id
  name    = var.domain_name
  type    = "A"

  alias {
    name                   = aws_vpclattice_service.this.dns_entry[0].domain_name
    zone_id                = aws_vpclattice_service.this.dns_entry[0].hosted_zone_id
    evaluate_target_health = false
  }
}

# Traffic comes from VPC Lattice's own addresses, never from the clients'; the prober dials each target itself.
resource "aws_vpc_security_group_ingress_rule" "lattice" {
  for_each = {
    ipv4 = data.aws_ec2_managed_prefix_list.lattice.id
    ipv6 = data.aws_ec2_managed_prefix_list.lattice_ipv6.id
  }
  security_group_id = var.target_group_sg_id
  prefix_list_id    = each.value
  ip_protocol       = "tcp"
  from_port         = local.port
  to_port           = local.port
}

resource "aws_vpc_security_group_ingress_rule" "prober" {
  security_group_id            = var.target_group_sg_id
  referenced_security_group_id = var.prober_sg_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

# The owner's consent, beside /etc/espalier/host.conf on the host.
resource "aws_ec2_tag" "consent" {
  for_each    = toset(var.instance_ids)
  resource_id = each.value
  key         = "espalier:stack"
  value       = local.stack
}

resource "aws_ssm_parameter" "spec" {
  name = "/espalier-spec/${local.stack}"
  type = "String"
  tier = "Intelligent-Tiering"

  value = jsonencode({
    version = 1
    stack   = local.stack
    owner   = "platform@example.com"
    manage  = "rotation"
    lattice = {
      serviceId      = aws_vpclattice_service.this.id
      targetGroupIds = [aws_vpclattice_target_group.this.id]
    }
    network = {
      vpcId            = var.vpc_id
      subnetIds        = var.subnet_ids
      serviceNetworkId = aws_vpclattice_service_network.this.id
      consumers        = [{ vpcId = var.vpc_id, securityGroupIds = var.client_group_ids }]
    }
    service = {
      domainName = var.domain_name
      port       = local.port
      dns        = { hostedZoneId = var.zone_id }
    }
    targets = {
      port            = local.port
      securityGroupId = var.target_group_sg_id
      select          = { instanceIds = var.instance_ids }
    }
    certificate = {
      dnsNames         = [var.domain_name]
      validityHours    = 168
      renewBeforeHours = 56
    }
    prober = { securityGroupId = var.prober_sg_id, samples = 6 }
  })

  depends_on = [
    aws_vpclattice_listener.this,
    aws_vpclattice_target_group_attachment.this,
    aws_vpclattice_service_network_service_association.this,
    aws_route53_record.this,
  ]
}
