# Slashing protection lives here. Multi-AZ replicates synchronously, so a failover loses no commit; after any restore from a
# backup or a snapshot run `holdfast slashing fence` before a signer starts (docs/runbooks/restore.md).
resource "aws_db_subnet_group" "holdfast" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "database" {
  name_prefix = "${var.name}-database-"
  description = "PostgreSQL of Holdfast: signers only"
  vpc_id      = var.vpc_id

  ingress {
    description     = "signers"
    from_port       = 5432
    to_port         = 5432
    protocol        = "tcp"
    security_groups = var.signer_security_group_ids
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_parameter_group" "holdfast" {
  name_prefix = "${var.name}-"
  family      = "postgres${split(".", var.engine_version)[0]}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # Holdfast refuses a connection on which a commit would not be durable.
  parameter {
    name  = "synchronous_commit"
    value = "on"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# The user named here is the administrator, for people alone: RDS changes its password every seven days unless told otherwise,
# which nothing brings to the signers. They have a role of their own, made once by signer-role.sql (docs/operators/kubernetes.md).
resource "aws_db_instance" "holdfast" {
  identifier                          = var.name
  engine                              = "postgres"
  engine_version                      = var.engine_version
  instance_class                      = var.instance_class
  allocated_storage                   = 50
  max_allocated_storage               = 500
  storage_type                        = "gp3"
  storage_encrypted                   = true
  kms_key_id                          = aws_kms_key.storage.arn
  db_name                             = "holdfast"
  username                            = "holdfast_admin"
  manage_master_user_password         = true
  multi_az                            = true
  publicly_accessible                 = false
  db_subnet_group_name                = aws_db_subnet_group.holdfast.name
  vpc_security_group_ids              = [aws_security_group.database.id]
  parameter_group_name                = aws_db_parameter_group.holdfast.name
  backup_retention_period             = 14
  copy_tags_to_snapshot               = true
  auto_minor_version_upgrade          = false
  deletion_protection                 = true
  skip_final_snapshot                 = false
  final_snapshot_identifier           = "${var.name}-final"
  performance_insights_enabled        = true
  enabled_cloudwatch_logs_exports     = ["postgresql", "upgrade"]
  iam_database_authentication_enabled = false

  lifecycle {
    prevent_destroy = true
  }
}
