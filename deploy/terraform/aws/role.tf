# The role of the signers' service account, and nobody else's: one namespace, one name.
data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${var.service_account}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "signer" {
  name               = "${var.name}-signer"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

# The use of the key is granted by the key's own policy. Here: adding to the bucket, and nothing that takes away. A checkpoint whose
# name is taken is read, to see that it is the same one; retention can be made longer only, for signers with audit.s3_lock_days.
data "aws_iam_policy_document" "signer" {
  statement {
    sid       = "AppendCheckpoints"
    actions   = ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject"]
    resources = ["${aws_s3_bucket.anchors.arn}/*"]
  }
  statement {
    sid       = "EncryptCheckpoints"
    actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
    resources = [aws_kms_key.storage.arn]
    # For objects of this bucket alone (that is what S3 passes on with a bucket key), and not for the database's disks.
    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:aws:s3:arn"
      values   = [aws_s3_bucket.anchors.arn]
    }
  }
}

resource "aws_iam_role_policy" "signer" {
  name   = "anchors"
  role   = aws_iam_role.signer.id
  policy = data.aws_iam_policy_document.signer.json
}
