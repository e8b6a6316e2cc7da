//! Platforms whose identity tokens are understood beyond the registered claims: which issuers and audiences make sense
//! there, and which of their claims name a workload for good (STANDARDS 2.3).

/// A platform that gives its workloads identity tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Kubernetes: projected service account tokens of pods.
    Kubernetes,
    /// GitHub Actions: tokens of workflow jobs.
    Github,
    /// Google Cloud: tokens of service accounts, from the metadata server or by impersonation.
    Gcp,
    /// Microsoft Entra: access tokens of applications and managed identities.
    Entra,
    /// AWS: tokens that STS `GetWebIdentityToken` gives a role.
    Aws,
}

/// Issuer or audience are not ones to configure for the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformFault {
    /// Every pod that asks for nothing has a token of this audience, and any service it calls could show it here.
    #[error(
        "is the API server's own, which the token of every pod has; choose one for the broker alone, like `leasehold`"
    )]
    ApiServerAudience,
    /// Every job that asks for nothing gets a token of this audience, and any service it calls could show it here.
    #[error(
        "is what jobs get that ask for no audience; choose one for the broker alone, like its own URL"
    )]
    OwnerAudience,
    /// Anybody can make a tenant; an issuer of all of them is a template (`{tenantid}`, `common`) and trusts everybody.
    #[error(
        "names no tenant; write `https://login.microsoftonline.com/<tenant id>/v2.0`, or for tokens of version 1 \
         `https://sts.windows.net/<tenant id>/`"
    )]
    NoTenant,
}

impl PlatformFault {
    /// Which of the two is wrong, by its name in the configuration.
    pub fn field(self) -> &'static str {
        match self {
            Self::ApiServerAudience | Self::OwnerAudience => "audience",
            Self::NoTenant => "issuer",
        }
    }
}

/// What AWS puts its claims under; it ends with `/`.
pub const AWS_NAMESPACE: &str = "https://sts.amazonaws.com/";
/// Behind it stands what the caller of `GetWebIdentityToken` says about itself.
pub const AWS_REQUEST_TAGS: &str = "https://sts.amazonaws.com/request_tags";

impl Platform {
    /// Each by the name that configuration gives it.
    pub const ALL: [(&'static str, Self); 5] = [
        ("kubernetes", Self::Kubernetes),
        ("github", Self::Github),
        ("gcp", Self::Gcp),
        ("entra", Self::Entra),
        ("aws", Self::Aws),
    ];

    /// Checks that tokens of this issuer, for this audience, can say who somebody is.
    ///
    /// # Errors
    /// [`PlatformFault`] says what to write instead.
    pub fn check(self, issuer: &str, audience: &str) -> Result<(), PlatformFault> {
        match self {
            Self::Kubernetes => {
                let names_api_server = audience.starts_with("https://kubernetes.default");
                let is_own = audience == issuer || names_api_server;
                if is_own { Err(PlatformFault::ApiServerAudience) } else { Ok(()) }
            }
            Self::Github => {
                let host = issuer.split("://").nth(1).and_then(|rest| rest.split('/').next());
                let server = match host.unwrap_or_default() {
                    "token.actions.githubusercontent.com" => "github.com",
                    host => host.strip_prefix("token.actions.").unwrap_or(host),
                };
                let rest = audience.strip_prefix("https://").and_then(|a| a.strip_prefix(server));
                let is_owner = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if is_owner { Err(PlatformFault::OwnerAudience) } else { Ok(()) }
            }
            Self::Entra => entra_tenant(issuer).map(|_| ()).ok_or(PlatformFault::NoTenant),
            Self::Gcp | Self::Aws => Ok(()),
        }
    }

    /// Sets of claims, each of which names a workload for good: whoever is deleted and made anew has others. `sub` is the
    /// subject. The first is the one to advise.
    ///
    /// A role's ARN can be made anew, but only within its own account, whose number it holds.
    pub fn lasting(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Kubernetes => {
                &[&["kubernetes.io/serviceaccount/uid"], &["kubernetes.io/pod/uid"]]
            }
            Self::Github => &[&["repository_id", "repository_owner_id", "job_workflow_ref"]],
            Self::Gcp => &[&["sub"], &["google/compute_engine/instance_id"]],
            Self::Entra => &[&["oid"], &["sub"]],
            Self::Aws => &[
                &["sub"],
                &["https://sts.amazonaws.com/lambda_source_function_arn"],
                &["https://sts.amazonaws.com/ec2_source_instance_arn"],
            ],
        }
    }

    /// Whether a claim is whatever the token's holder asked for, so that it proves nothing about it.
    pub fn is_callers_choice(self, claim: &str) -> bool {
        self == Self::Aws && claim.starts_with(AWS_REQUEST_TAGS)
    }
}

/// The tenant in an issuer of Entra: `https://<host>/<tenant id>/v2.0`, or `https://<host>/<tenant id>/` of version 1.
pub fn entra_tenant(issuer: &str) -> Option<&str> {
    let (_, rest) = issuer.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let (tenant, version) = path.split_once('/')?;
    (is_guid(tenant) && matches!(version, "" | "v2.0")).then_some(tenant)
}

/// Whether a text is a GUID in the form in which Entra writes them.
pub fn is_guid(text: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 36
        && text.bytes().enumerate().all(|(n, byte)| match n {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_hex(byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "63122682-bd96-47fd-97ab-95a76ce699a6";

    #[test]
    fn class_12_an_issuer_of_every_tenant_is_none() {
        for (issuer, tenant) in [
            (format!("https://login.microsoftonline.com/{TENANT}/v2.0"), Some(TENANT)),
            (format!("https://sts.windows.net/{TENANT}/"), Some(TENANT)),
            (format!("https://login.microsoftonline.us/{TENANT}/v2.0"), Some(TENANT)),
            ("https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(), None),
            ("https://login.microsoftonline.com/common/v2.0".to_owned(), None),
            ("https://login.microsoftonline.com/organizations/v2.0".to_owned(), None),
            ("https://sts.windows.net/".to_owned(), None),
            (format!("https://sts.windows.net/{TENANT}"), None),
            (format!("https://login.microsoftonline.com/{TENANT}/v2.0/"), None),
            (format!("https://login.microsoftonline.com/{}/v2.0", TENANT.to_uppercase()), None),
            (format!("https://login.microsoftonline.com/x/{TENANT}/v2.0"), None),
        ] {
            assert_eq!(entra_tenant(&issuer), tenant, "{issuer}");
            let expected = tenant.map(|_| ()).ok_or(PlatformFault::NoTenant);
            assert_eq!(Platform::Entra.check(&issuer, "api://leasehold"), expected, "{issuer}");
        }
    }

    #[test]
    fn an_audience_that_every_token_of_the_platform_has_is_none() {
        let kubernetes = |audience| {
            Platform::Kubernetes.check("https://oidc.eks.eu-west-1.amazonaws.com/id/A1", audience)
        };
        assert_eq!(kubernetes("leasehold"), Ok(()));
        for audience in [
            "https://oidc.eks.eu-west-1.amazonaws.com/id/A1",
            "https://kubernetes.default.svc",
            "https://kubernetes.default.svc.cluster.local",
        ] {
            assert_eq!(kubernetes(audience), Err(PlatformFault::ApiServerAudience), "{audience}");
        }
        for (issuer, audience, fits) in [
            ("https://token.actions.githubusercontent.com", "https://github.com/octo-org", false),
            ("https://token.actions.githubusercontent.com", "https://github.com", false),
            ("https://token.actions.githubusercontent.com/octo", "https://github.com/octo", false),
            ("https://token.actions.octo.ghe.com", "https://octo.ghe.com/octo-org", false),
            ("https://git.example/_services/token", "https://git.example/octo-org", false),
            ("https://token.actions.githubusercontent.com", "https://github.company.example", true),
            ("https://token.actions.githubusercontent.com", "leasehold", true),
            ("https://git.example/_services/token", "https://git.example.org/octo-org", true),
        ] {
            let fault = PlatformFault::OwnerAudience;
            let expected = if fits { Ok(()) } else { Err(fault) };
            assert_eq!(Platform::Github.check(issuer, audience), expected, "{issuer} {audience}");
        }
    }

    #[test]
    fn only_what_the_caller_chose_is_its_choice() {
        let tag = "https://sts.amazonaws.com/request_tags/job";
        assert!(Platform::Aws.is_callers_choice(tag));
        assert!(Platform::Aws.is_callers_choice(AWS_REQUEST_TAGS));
        assert!(!Platform::Aws.is_callers_choice("https://sts.amazonaws.com/principal_tags/job"));
        assert!(!Platform::Github.is_callers_choice(tag));
    }
}
