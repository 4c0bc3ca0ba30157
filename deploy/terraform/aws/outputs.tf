output "helm_values" {
  description = "Values of deploy/helm/holdfast that follow from this: terraform output -raw helm_values > values-aws.yaml."
  value = yamlencode({
    replicas       = 2
    slashing       = { backend = "postgres", instances = "kept" }
    database       = { url = "postgres://${aws_db_instance.holdfast.username}@${aws_db_instance.holdfast.endpoint}/${aws_db_instance.holdfast.db_name}?sslmode=verify-full&sslrootcert=/etc/holdfast/database/ca.crt", existingSecret = "${var.name}-database" }
    keys           = { provider = "aws-kms" }
    extraEnv       = [{ name = "HOLDFAST_AWS_KEYS", value = aws_kms_key.holdfast.arn }]
    serviceAccount = { name = var.service_account, annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.signer.arn } }
  })
}

output "database_password_secret" {
  description = "ARN of the secret in Secrets Manager in which RDS keeps the password: copy it, with the authority of RDS as ca.crt, into the Kubernetes secret named in database.existingSecret."
  value       = aws_db_instance.holdfast.master_user_secret[0].secret_arn
}

output "anchors_bucket" {
  description = "Bucket for checkpoints."
  value       = aws_s3_bucket.anchors.bucket
}

output "key_arn" {
  description = "Key for the provider aws-kms."
  value       = aws_kms_key.holdfast.arn
}
