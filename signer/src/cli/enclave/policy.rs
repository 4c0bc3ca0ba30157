//! `holdfast enclave kms-policy`: who may do what with the key that an enclave's data key is wrapped with.
//!
//! Guarantees of the policy that is printed: only a call that carries an attestation document of one of the images gets
//! anything decrypted, which an explicit denial says to everybody, administrators and grants included; the role of the
//! instance can change nothing about the key. What it cannot do: whoever may change the policy can let himself in.

use serde_json::{Value, json};

use super::super::args::KmsPolicyArgs;
use super::super::output::print;
use super::super::{Exit, Failure};
use super::images;

/// What an administrator may do: everything but use the key.
const ADMINISTRATION: [&str; 19] = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:Describe*",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:Get*",
    "kms:List*",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
    "kms:UpdatePrimaryRegion",
];

/// What decrypts, with a grant too. `ReEncrypt` takes no document, so nobody may.
const DECRYPTION: [&str; 3] = ["kms:Decrypt", "kms:ReEncryptFrom", "kms:CreateGrant"];

/// What the role of the instance must not be able to do, whoever allows it elsewhere.
const CHANGES: [&str; 8] = [
    "kms:CreateGrant",
    "kms:DisableKey",
    "kms:PutKeyPolicy",
    "kms:ReplicateKey",
    "kms:RetireGrant",
    "kms:ScheduleKeyDeletion",
    "kms:UpdateAlias",
    "kms:UpdatePrimaryRegion",
];

/// A role, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Role<'a> {
    arn: &'a str,
    partition: &'a str,
    account: &'a str,
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl<'a> Role<'a> {
    fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next();
        let (head, partition, service, region, account, name) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let is_role = name.strip_prefix("role/").is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+=,.@_-".contains(&byte))
        });
        let partitions = ["aws", "aws-cn", "aws-us-gov"];
        let fits = head == "arn" && partitions.contains(&partition) && service == "iam" && region.is_empty();
        (fits && is_account(account) && is_role).then_some(Self { arn, partition, account })
    }
}

/// Prints the policy: JSON, with and without `--json`.
pub(super) fn run(args: &KmsPolicyArgs) -> Result<Exit, Failure> {
    let images: Vec<String> = images(&args.images)?.iter().map(ToString::to_string).collect();
    if images.is_empty() {
        return Err(Failure::message(
            Exit::Usage,
            "which image may decrypt? give --eif FILE, or --pcr0 HEX as `holdfast enclave describe` prints it",
        ));
    }
    let role = Role::parse(&args.role).ok_or_else(|| {
        Failure::message(
            Exit::Usage,
            format!("--role: {:?} is no ARN of a role, such as arn:aws:iam::111122223333:role/signer", args.role),
        )
    })?;
    let account = args.account.as_deref().unwrap_or(role.account);
    if !is_account(account) {
        return Err(Failure::message(Exit::Usage, format!("--account: {account:?} is no account id of 12 digits")));
    }
    print(&format!("{:#}\n", policy(&role, account, &images)))?;
    Ok(Exit::Done)
}

fn policy(role: &Role<'_>, account: &str, images: &[String]) -> Value {
    let root = format!("arn:{}:iam::{account}:root", role.partition);
    let image = "kms:RecipientAttestation:ImageSha384";
    let application = json!({ "kms:EncryptionContext:app": "holdfast/v1" });
    json!({
        "Version": "2012-10-17",
        "Id": "holdfast-vault",
        "Statement": [
            {
                "Sid": "AdministersWithoutDecrypting",
                "Effect": "Allow",
                "Principal": { "AWS": root },
                "Action": ADMINISTRATION,
                "Resource": "*",
            },
            {
                "Sid": "WrapsNewDataKeys",
                "Effect": "Allow",
                "Principal": { "AWS": root },
                "Action": "kms:Encrypt",
                "Resource": "*",
                "Condition": { "StringEquals": application },
            },
            {
                "Sid": "TheEnclaveDecrypts",
                "Effect": "Allow",
                "Principal": { "AWS": role.arn },
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {
                    "StringEqualsIgnoreCase": { image: images },
                    "StringEquals": application,
                },
            },
            {
                // True also where a request has no document at all: a negated comparison with a missing key matches.
                "Sid": "NobodyElseDecrypts",
                "Effect": "Deny",
                "Principal": "*",
                "Action": DECRYPTION,
                "Resource": "*",
                "Condition": { "StringNotEqualsIgnoreCase": { image: images } },
            },
            {
                "Sid": "TheInstanceChangesNothing",
                "Effect": "Deny",
                "Principal": { "AWS": role.arn },
                "Action": CHANGES,
                "Resource": "*",
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_taken_apart() {
        let arn = "arn:aws-us-gov:iam::111122223333:role/path/signer";
        assert_eq!(Role::parse(arn), Some(Role { arn, partition: "aws-us-gov", account: "111122223333" }));
        for other in [
            "signer",
            "arn:aws:iam::111122223333:user/signer",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::1111:role/signer",
            "arn:aws:sts::111122223333:role/signer",
            "arn:aws:iam::111122223333:role/a\"b",
        ] {
            assert_eq!(Role::parse(other), None, "{other}");
        }
    }

    #[test]
    fn nobody_is_allowed_to_decrypt_without_a_document() {
        let role = Role::parse("arn:aws:iam::111122223333:role/signer").unwrap();
        let policy = policy(&role, "444455556666", &["aa".to_owned(), "bb".to_owned()]);
        let statements = policy["Statement"].as_array().unwrap();
        for statement in statements.iter().filter(|statement| statement["Effect"] == "Allow") {
            let actions = statement["Action"].to_string();
            assert!(!actions.contains("\"kms:*\""), "{actions}");
            let decrypts =
                actions.contains("Decrypt\"") || actions.contains("ReEncrypt") || actions.contains("CreateGrant");
            let conditions = &statement["Condition"]["StringEqualsIgnoreCase"]["kms:RecipientAttestation:ImageSha384"];
            assert_eq!(decrypts, *conditions == json!(["aa", "bb"]), "{statement}");
            let changes = actions.contains("PutKeyPolicy");
            assert!(!changes || statement["Principal"]["AWS"] == "arn:aws:iam::444455556666:root", "{statement}");
        }
        let denied: Vec<_> = statements.iter().filter(|statement| statement["Effect"] == "Deny").collect();
        assert_eq!(denied.len(), 2);
        assert_eq!(denied[0]["Principal"], "*");
        assert!(denied[1]["Action"].to_string().contains("kms:PutKeyPolicy"));
    }
}
