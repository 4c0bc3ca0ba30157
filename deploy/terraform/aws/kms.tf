# The key that guards the data key (provider "aws-kms", docs/kek.md). The policy names every call: encryption and decryption
# are bound to Holdfast and to one chain, and administrators cannot decrypt.
# For an enclave use `holdfast enclave kms-policy` instead, which binds decryption to an image (docs/nitro.md).
data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "key" {
  statement {
    sid = "Administer"
    actions = [
      "kms:Describe*", "kms:Get*", "kms:List*", "kms:TagResource", "kms:UntagResource", "kms:UpdateKeyDescription",
      "kms:EnableKey", "kms:DisableKey", "kms:EnableKeyRotation", "kms:RotateKeyOnDemand", "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias",
    ]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = var.key_administrator_arns
    }
  }

  statement {
    sid       = "Sign"
    actions   = ["kms:Encrypt", "kms:Decrypt"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.signer.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:app"
      values   = ["holdfast/v1"]
    }
    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:network"
      values   = [var.genesis_validators_root]
    }
  }

  # Whatever other policies say.
  statement {
    sid       = "NobodyElseDecrypts"
    effect    = "Deny"
    actions   = ["kms:Decrypt", "kms:ReEncryptFrom", "kms:CreateGrant"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "ArnNotEquals"
      variable = "aws:PrincipalArn"
      values   = [aws_iam_role.signer.arn]
    }
  }
}

resource "aws_kms_key" "holdfast" {
  description             = "${var.name}: guards the data key of Holdfast"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json

  lifecycle {
    # Without it, every stored key is lost.
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "holdfast" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.holdfast.key_id
}

# Apart from the above: whoever reads the disks must not thereby open the data key.
resource "aws_kms_key" "storage" {
  description             = "${var.name}: disks of the database and the bucket"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}
