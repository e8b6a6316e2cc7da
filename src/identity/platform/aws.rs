//! AWS: the token that STS `GetWebIdentityToken` gives a role, from the issuer of its account.
//!
//! ```text
//!  iss sub aud exp iat jti                `sub` is the role's ARN, which holds the number of its account
//!  https://sts.amazonaws.com/             aws_account, org_id, ou_path, source_region, principal_tags {}, and of the session
//!                                         lambda_source_function_arn, ec2_source_instance_arn, source_identity …
//!                                         request_tags {}: whatever the caller asked for
//! ```
//!
//! What AWS attests has names like `https://sts.amazonaws.com/aws_account`. The caller's own tags are left out: they prove
//! nothing. The virtual machine or the function is the instance, if the session tells of one.

use super::{Attested, PlatformError, flatten, text, text_at, texts};
use crate::domain::platform::{AWS_NAMESPACE, AWS_REQUEST_TAGS};
use crate::jose::{ClaimError, Claims};

const ACCOUNT: &str = "https://sts.amazonaws.com/aws_account";
const MACHINE: &str = "https://sts.amazonaws.com/ec2_source_instance_arn";
const FUNCTION: &str = "https://sts.amazonaws.com/lambda_source_function_arn";

pub(super) fn read(claims: &Claims) -> Result<Attested, PlatformError> {
    let attested = claims.get(AWS_NAMESPACE).ok_or(ClaimError::Missing(AWS_NAMESPACE))?;
    let account = text_at(attested, &["aws_account"], ACCOUNT)?;
    let role = Arn::parse(claims.text("sub")?).ok_or(PlatformError::Malformed("sub"))?;
    if role.service != "iam" || !role.resource.starts_with("role/") {
        return Err(PlatformError::NotAWorkload("`sub` is not the ARN of a role"));
    }
    if role.account != account {
        return Err(PlatformError::Disagree("sub", ACCOUNT));
    }
    let mut found = texts(claims);
    flatten(AWS_NAMESPACE, Some(attested), text, &mut found);
    // INVARIANT (attested names): what the caller chose has no name that an entry could match.
    found.retain(|name, _| !name.starts_with(AWS_REQUEST_TAGS));
    let session = [("ec2", MACHINE), ("lambda", FUNCTION)];
    let instance = session.into_iter().find_map(|(kind, name)| Some((kind, found.get(name)?)));
    let instance = instance.map(|(kind, arn)| format!("{kind}:{arn}"));
    Ok(Attested { instance, claims: found })
}

/// The parts of `arn:<partition>:<service>:<region>:<account>:<resource>` that are looked at.
struct Arn<'t> {
    service: &'t str,
    account: &'t str,
    resource: &'t str,
}

impl<'t> Arn<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (scheme, partition) = (parts.next()?, parts.next()?);
        let (service, _region) = (parts.next()?, parts.next()?);
        let (account, resource) = (parts.next()?, parts.next()?);
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let fits = scheme == "arn" && partition.starts_with("aws") && is_account;
        fits.then_some(Self { service, account, resource })
    }
}
