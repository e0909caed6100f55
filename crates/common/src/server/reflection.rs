//! What is served, told to grpcurl and its like, in both versions of the protocol.
//!
//! The descriptors of google.rpc are registered too: only then does grpcurl decode the details of
//! an error.

use tonic_reflection::server::Builder;

use super::Error;
use super::edge::Named;
use super::health::named;
use crate::identity::{Access, MethodInfo, Methods, Role};

/// The service's package in each version.
const PACKAGES: [&str; 2] = ["grpc.reflection.v1", "grpc.reflection.v1alpha"];

/// The two services.
pub(super) fn services(
    names: &[&'static str],
    descriptors: &'static [u8],
) -> Result<[Named; 2], Error> {
    let builder = || {
        let mut builder = Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for package in PACKAGES {
            builder = builder.with_service_name(format!("{package}.ServerReflection"));
        }
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    Ok([named(builder().build_v1()?), named(builder().build_v1alpha()?)])
}

/// Operators may ask; in development mode everybody is one, unless it says otherwise.
pub(super) fn add_methods(methods: &mut Methods, development: bool) {
    let access = if development { Access::Anybody } else { Access::of(&[Role::Operator]) };
    for package in PACKAGES {
        methods.0.push(MethodInfo {
            path: format!("/{package}.ServerReflection/ServerReflectionInfo"),
            access,
            client_streams: true,
            server_streams: true,
        });
    }
}
