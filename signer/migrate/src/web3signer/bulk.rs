//! Secret stores of which Web3Signer takes all keys, or those that a filter lets through, by its settings.
//!
//! Guarantees: a store that is switched on is complete, or refused with the name of the option that is missing or no good.

use holdfast_secret::SecretText;

use super::secrets::{AwsNames, AwsStore, AzureNames, AzureStore, Flaw, Texts, aws, azure, plain};
use super::settings::{Settings, SettingsError};

/// The options of Google Secret Manager beside its switch.
const PROJECT: &str = "gcp-project-id";
const EXPRESSION: &str = "gcp-secrets-filter";

/// Secrets of AWS Secrets Manager, each with one key a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsBulk {
    /// Where.
    pub store: AwsStore,
    /// What their names begin with, one of these; any name without.
    pub prefixes: Vec<String>,
    /// Tags to filter by, as the service does. An empty value stands for any.
    pub tags: Vec<(String, String)>,
}

/// Secrets of an Azure Key Vault, each with one key a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureBulk {
    /// Where.
    pub store: AzureStore,
    /// Tags that a secret must have, all of them with these values.
    pub tags: Vec<(String, String)>,
}

/// Secrets of Google Secret Manager, each with one key a line. Credentials are the platform's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleBulk {
    /// The project, by its identifier or its number.
    pub project: String,
    /// An expression in the service's language that chooses secrets; all of the project without.
    pub filter: Option<String>,
}

impl Settings {
    /// The secrets of AWS Secrets Manager that are taken, if any are.
    ///
    /// # Errors
    /// [`SettingsError`] that names the option.
    pub fn aws_bulk(&self) -> Result<Option<AwsBulk>, SettingsError> {
        if !self.switch("aws-secrets-enabled", false)? {
            return Ok(None);
        }
        let names = AwsNames {
            mode: "aws-secrets-auth-mode",
            region: "aws-secrets-region",
            id: "aws-secrets-access-key-id",
            secret: "aws-secrets-secret-access-key",
            endpoint: "aws-endpoint-override",
        };
        let store = aws(self, &names).map_err(named)?;
        let prefixes = self.list("aws-secrets-prefixes-filter", ',');
        Ok(Some(AwsBulk { store, prefixes, tags: self.tags("aws-secrets-tag") }))
    }

    /// The secrets of an Azure Key Vault that are taken, if any are.
    ///
    /// # Errors
    /// [`SettingsError`] that names the option.
    pub fn azure_bulk(&self) -> Result<Option<AzureBulk>, SettingsError> {
        if !self.switch("azure-vault-enabled", false)? {
            return Ok(None);
        }
        let names = AzureNames {
            mode: "azure-vault-auth-mode",
            vault: "azure-vault-name",
            tenant: "azure-tenant-id",
            client: "azure-client-id",
            secret: "azure-client-secret",
            timeout: "azure-response-timeout",
        };
        Ok(Some(AzureBulk { store: azure(self, &names).map_err(named)?, tags: self.tags("azure-tags") }))
    }

    /// The secrets of Google Secret Manager that are taken, if any are.
    ///
    /// # Errors
    /// [`SettingsError`] that names the option.
    pub fn google_bulk(&self) -> Result<Option<GoogleBulk>, SettingsError> {
        if !self.switch("gcp-secrets-enabled", false)? {
            return Ok(None);
        }
        let project = self.need(PROJECT).map_err(named)?;
        let project = plain(project, PROJECT, "-.:", "the identifier or number of a project").map_err(named)?;
        // Of several texts none is the filter, and without one all secrets would come.
        if self.get(EXPRESSION).is_some_and(|setting| setting.values.len() > 1) {
            return Err(SettingsError::NotA { name: EXPRESSION, what: "one text" });
        }
        let filter = Texts::text(self, EXPRESSION).map(|text| text.expose().to_owned());
        Ok(Some(GoogleBulk { project, filter }))
    }

    fn list(&self, name: &str, between: char) -> Vec<String> {
        let values = self.get(name).map(|setting| setting.values.as_slice()).unwrap_or_default();
        let parts = values.iter().flat_map(|value| value.expose().split(between)).map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn tags(&self, name: &str) -> Vec<(String, String)> {
        let pair = |text: &String| {
            let (tag, value) = text.split_once('=').unwrap_or((text, ""));
            (tag.to_owned(), value.to_owned())
        };
        self.list(name, '|').iter().map(pair).collect()
    }
}

impl Texts for Settings {
    fn text(&self, name: &str) -> Option<&SecretText> {
        Self::text(self, name).filter(|text| !text.is_empty())
    }
}

fn named(flaw: Flaw) -> SettingsError {
    match flaw {
        Flaw::Missing(name) => SettingsError::NoValue { name },
        Flaw::NotA(name, what) => SettingsError::NotA { name, what },
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Sources, read};
    use super::*;

    fn of(file: &str) -> Settings {
        read(Sources { file: Some(file), ..Sources::default() }).unwrap()
    }

    #[test]
    fn stores_that_are_switched_on_are_complete_or_refused() {
        assert_eq!(of("eth2.aws-secrets-enabled: false\n").aws_bulk(), Ok(None));
        assert_eq!(of("eth2.network: hoodi\n").azure_bulk(), Ok(None));
        let bare = of("eth2.aws-secrets-enabled: true\n").aws_bulk();
        assert_eq!(bare, Err(SettingsError::NoValue { name: "aws-secrets-region" }));
        let odd = of("eth2:\n  azure-vault-enabled: true\n  azure-vault-name: v\n  azure-vault-auth-mode: MAGIC\n");
        assert!(matches!(odd.azure_bulk(), Err(SettingsError::NotA { name: "azure-vault-auth-mode", .. })));
    }

    #[test]
    fn a_project_is_named_and_its_filter_is_one_text_or_none() {
        let google = |more: &str| of(&format!("eth2:\n  gcp-secrets-enabled: true\n{more}")).google_bulk();
        assert_eq!(of("eth2.gcp-project-id: p\n").google_bulk(), Ok(None));
        assert_eq!(google(""), Err(SettingsError::NoValue { name: "gcp-project-id" }));
        let bulk = |filter: Option<&str>| {
            Ok(Some(GoogleBulk { project: "example.com:p-1".to_owned(), filter: filter.map(str::to_owned) }))
        };
        let project = "  gcp-project-id: 'example.com:p-1'\n";
        assert_eq!(google(project), bulk(None));
        assert_eq!(google(&format!("{project}  gcp-secrets-filter: ''\n")), bulk(None));
        let filter = "labels.net=hoodi AND name:keys";
        assert_eq!(google(&format!("{project}  gcp-secrets-filter: '{filter}'\n")), bulk(Some(filter)));
        let two = google(&format!("{project}  gcp-secrets-filter: [a, b]\n"));
        assert_eq!(two, Err(SettingsError::NotA { name: "gcp-secrets-filter", what: "one text" }));
        for odd in ["p/secrets/x?", "..", "p q"] {
            let refused = google(&format!("  gcp-project-id: '{odd}'\n"));
            assert!(matches!(refused, Err(SettingsError::NotA { name: "gcp-project-id", .. })), "{odd}");
        }
    }

    #[test]
    fn filters_are_read_in_every_form_of_the_file() {
        let aws = |tags: &str| {
            let file = format!(
                "eth2:\n  aws-secrets-enabled: true\n  aws-secrets-auth-mode: ENVIRONMENT\n  aws-secrets-prefixes-filter: \
                 'a/,b/'\n  aws-secrets-tag: {tags}\n"
            );
            of(&file).aws_bulk().unwrap().unwrap()
        };
        let pairs = vec![("net".to_owned(), "hoodi".to_owned()), ("live".to_owned(), String::new())];
        for tags in ["'net=hoodi|live'", "[net=hoodi, live]", "{net: hoodi, live: ''}"] {
            let bulk = aws(tags);
            assert_eq!((bulk.tags, bulk.prefixes), (pairs.clone(), vec!["a/".to_owned(), "b/".to_owned()]), "{tags}");
        }
        let bulk = of(
            "eth2:\n  azure-vault-enabled: true\n  azure-vault-name: v\n  azure-vault-auth-mode: SYSTEM_ASSIGNED_MANAGED_IDENTITY\n",
        );
        assert_eq!(bulk.azure_bulk().unwrap().unwrap().tags, []);
    }
}
