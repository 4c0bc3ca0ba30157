output "helm_values" {
  description = "Values of deploy/helm/holdfast that follow from this: terraform output -raw helm_values >values-aws.yaml. What is yours to add is in docs/operators/kubernetes.md."
  value = templatefile("${path.module}/values.yaml.tftpl", {
    network          = var.network
    image_repository = var.image_repository
    database_host    = aws_db_instance.holdfast.address
    database_port    = aws_db_instance.holdfast.port
    database_name    = aws_db_instance.holdfast.db_name
    database_secret  = "${var.name}-database"
    tls_secret       = "${var.name}-tls"
    key_arn          = aws_kms_key.holdfast.arn
    anchors_bucket   = aws_s3_bucket.anchors.bucket
    anchors_region   = aws_s3_bucket.anchors.region
    service_account  = var.service_account
    role_arn         = aws_iam_role.signer.arn
  })
}

output "database_administrator_secret" {
  description = "ARN of the secret in Secrets Manager in which RDS keeps the password of holdfast_admin, and changes it. For administrators: signers never use it. With it, make their role once (signer-role.sql)."
  value       = aws_db_instance.holdfast.master_user_secret[0].secret_arn
}

output "database_host" {
  description = "Where the database is. Only the security groups of signers reach it."
  value       = aws_db_instance.holdfast.address
}

output "anchors_bucket" {
  description = "Bucket for checkpoints."
  value       = aws_s3_bucket.anchors.bucket
}

output "key_arn" {
  description = "Key for the provider aws-kms."
  value       = aws_kms_key.holdfast.arn
}
