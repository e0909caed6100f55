//! Which roles may call which method, compared with what is served.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost_types::FileDescriptorSet;

use super::Role;

/// The rows of a service: the full path of a method, and the roles that may call it.
///
/// `("/adspend.billing.v1.AccountService/GetAccount", &[Role::Operator, Role::Agency])`
pub type MethodTable = &'static [(&'static str, &'static [Role])];

/// The method table does not fit what is served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A method that is served has no row.
    #[error("no row of the method table says who may call {0}")]
    Missing(String),
    /// A row names a method that is not served.
    #[error("the method table has a row for {0}, which is not served")]
    Stale(String),
    /// Two rows name the same method.
    #[error("the method table has two rows for {0}")]
    Twice(String),
    /// A service that is served is not in the descriptors.
    #[error("the descriptors do not know the service {0}")]
    UnknownService(String),
    /// The descriptors are not a descriptor set.
    #[error("the descriptors cannot be read")]
    Descriptors,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody, without saying who: health.
    Anybody,
    /// The roles whose bits are set.
    Roles(u8),
}

impl Access {
    pub(crate) fn of(roles: &[Role]) -> Access {
        Access::Roles(roles.iter().fold(0, |bits, role| bits | bit(*role)))
    }

    /// Whether a caller of this role may.
    pub(crate) fn allows(self, role: Role) -> bool {
        match self {
            Access::Anybody => true,
            Access::Roles(bits) => bits & bit(role) != 0,
        }
    }
}

const fn bit(role: Role) -> u8 {
    1 << role as u8
}

/// A method that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MethodInfo {
    /// `/package.Service/Method`
    pub(crate) path: String,
    pub(crate) access: Access,
    /// The requests are a stream.
    pub(crate) client_streams: bool,
    /// The answers are a stream.
    pub(crate) server_streams: bool,
}

impl MethodInfo {
    /// Neither side streams.
    pub(crate) fn is_unary(&self) -> bool {
        !self.client_streams && !self.server_streams
    }
}

/// Every method of the services that are served.
#[derive(Debug)]
pub(crate) struct Methods(pub(crate) Vec<MethodInfo>);

impl Methods {
    /// The methods of `services` as `descriptors` describe them, with the access that `table`
    /// gives; refused when a method has no row, or a row no method.
    pub(crate) fn checked(
        services: &[&str],
        descriptors: &[u8],
        table: MethodTable,
    ) -> Result<Methods, TableError> {
        let mut rows = HashMap::with_capacity(table.len());
        for (path, roles) in table {
            if rows.insert(*path, *roles).is_some() {
                return Err(TableError::Twice((*path).to_owned()));
            }
        }
        let described = described(descriptors)?;
        let mut methods = Vec::new();
        let mut served = HashSet::new();
        for service in services {
            let of_service = described
                .get(*service)
                .ok_or_else(|| TableError::UnknownService((*service).to_owned()))?;
            for described in of_service {
                let path = &described.path;
                let roles =
                    rows.get(path.as_str()).ok_or_else(|| TableError::Missing(path.clone()))?;
                methods.push(MethodInfo { access: Access::of(roles), ..described.clone() });
                served.insert(path.clone());
            }
        }
        match rows.keys().find(|path| !served.contains(**path)) {
            Some(stale) => Err(TableError::Stale((*stale).to_owned())),
            None => Ok(Methods(methods)),
        }
    }
}

/// Every service of a descriptor set with its methods, which nobody may call yet.
fn described(descriptors: &[u8]) -> Result<HashMap<String, Vec<MethodInfo>>, TableError> {
    let set = FileDescriptorSet::decode(descriptors).map_err(|_| TableError::Descriptors)?;
    let mut services = HashMap::new();
    for file in &set.file {
        for service in &file.service {
            let name = match file.package() {
                "" => service.name().to_owned(),
                package => format!("{package}.{}", service.name()),
            };
            let methods = service
                .method
                .iter()
                .map(|method| MethodInfo {
                    path: format!("/{name}/{}", method.name()),
                    access: Access::Roles(0),
                    client_streams: method.client_streaming(),
                    server_streams: method.server_streaming(),
                })
                .collect();
            services.insert(name, methods);
        }
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;

    const AUDIT: &str = "adspend.billing.v1.AuditService";
    const VERIFY: &str = "/adspend.billing.v1.AuditService/VerifyLedger";
    const RECORDS: &str = "/adspend.billing.v1.AuditService/ListAuditRecords";

    fn check(services: &[&str], table: MethodTable) -> Result<Methods, TableError> {
        Methods::checked(services, FILE_DESCRIPTOR_SET, table)
    }

    #[test]
    fn the_table_must_fit_what_is_served() {
        let methods = check(&[AUDIT], &[(VERIFY, &[Role::Auditor]), (RECORDS, &[])]).unwrap();
        let verify = methods.0.iter().find(|method| method.path == VERIFY).unwrap();
        assert!(verify.access.allows(Role::Auditor) && verify.is_unary());
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Auditor) {
            assert!(!verify.access.allows(role), "{role}");
        }

        assert_eq!(
            check(&[AUDIT], &[(RECORDS, &[])]).unwrap_err(),
            TableError::Missing(VERIFY.to_owned())
        );
        assert_eq!(
            check(&[], &[(VERIFY, &[Role::Auditor])]).unwrap_err(),
            TableError::Stale(VERIFY.to_owned())
        );
        assert_eq!(
            check(&[AUDIT], &[(VERIFY, &[]), (RECORDS, &[]), (VERIFY, &[])]).unwrap_err(),
            TableError::Twice(VERIFY.to_owned())
        );
        let unknown = check(&["adspend.billing.v1.NoService"], &[]).unwrap_err();
        assert!(matches!(unknown, TableError::UnknownService(_)));
    }

    #[test]
    fn streams_are_known_from_the_descriptors() {
        let described = described(FILE_DESCRIPTOR_SET).unwrap();
        let admission = &described["adspend.pacing.v1.AdmissionService"];
        let streams: Vec<_> = admission.iter().filter(|method| !method.is_unary()).collect();
        let [stream] = streams.as_slice() else { panic!("one stream: {streams:?}") };
        assert!(stream.path.ends_with("/StreamAdmit"));
        assert!(stream.client_streams && stream.server_streams);
    }
}
