variable "name" {
  description = "Prefix of everything that is made."
  type        = string
  default     = "holdfast"
}

variable "vpc_id" {
  description = "VPC of the cluster."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets for the database, in at least two zones."
  type        = list(string)
}

variable "signer_security_group_ids" {
  description = "Security groups of the nodes (or pods) that run signers: they alone reach the database."
  type        = list(string)
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OIDC provider (IAM roles for service accounts)."
  type        = string
}

variable "oidc_issuer" {
  description = "Issuer of the cluster without https://, such as oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE."
  type        = string
}

variable "namespace" {
  description = "Namespace of the Helm release."
  type        = string
  default     = "signers"
}

variable "service_account" {
  description = "Service account of the Helm release."
  type        = string
  default     = "holdfast"
}

variable "network" {
  description = "Network of the signers: mainnet, hoodi, sepolia, …. With another than mainnet, set genesis_validators_root, too."
  type        = string
  default     = "mainnet"
}

variable "genesis_validators_root" {
  description = "Of the network: the key decrypts for this chain only. `holdfast config validate` prints it."
  type        = string
  default     = "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"
}

variable "key_administrator_arns" {
  description = "Roles that may administer the key and change its policy, and not decrypt with it: the role that applies this must be among them, as KMS refuses a policy that its author could not change again. Best a role that needs two people."
  type        = list(string)
}

variable "instance_class" {
  description = "Class of the database."
  type        = string
  default     = "db.m7g.large"
}

variable "engine_version" {
  description = "Version of PostgreSQL: 14 or newer. A major version alone is the minor one that RDS makes at the time."
  type        = string
  default     = "17"
}

variable "image_repository" {
  description = "Image of your own, such as 111122223333.dkr.ecr.eu-west-1.amazonaws.com/holdfast."
  type        = string
}

variable "anchor_retention_days" {
  description = "How long nobody, not even the account's root, can delete what audits compare against."
  type        = number
  default     = 2555
}
