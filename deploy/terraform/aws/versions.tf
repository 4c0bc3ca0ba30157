# What Holdfast needs of AWS on an EKS cluster that is there already: a key, a database, a role, a bucket.
# Nothing here holds a key of a validator, and no secret is in the state: the password of the database's administrator is made and
# kept by RDS, that of the signers' role by whoever makes the role. The steps, in order, are in docs/operators/kubernetes.md.
terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7"
    }
  }
}
