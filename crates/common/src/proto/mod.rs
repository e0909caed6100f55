//! The generated protobuf types of both services and of the google packages they use.
//!
//! Written by `make proto` from `proto/`; a test keeps it fresh. Do not edit: change the proto.

#![allow(
    missing_docs,
    rustdoc::all,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants,
    reason = "generated code: its documentation and its form are those of the proto"
)]

/// Every file of our packages and what they import, with comments, for reflection and for tests
/// that compare code and annotations.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("descriptor.bin");

/// Packages under `adspend`.
pub mod adspend {
    pub use r#type as types;

    /// Packages under `adspend.billing`.
    pub mod billing {
        /// Package `adspend.billing.v1`.
        pub mod v1 {
            include!("adspend.billing.v1.rs");
        }
    }

    /// Packages under `adspend.pacing`.
    pub mod pacing {
        /// Package `adspend.pacing.v1`.
        pub mod v1 {
            include!("adspend.pacing.v1.rs");
        }
    }

    /// Packages under `adspend.type`.
    pub mod r#type {
        /// Package `adspend.type.v1`.
        pub mod v1 {
            include!("adspend.type.v1.rs");
        }
    }
}

/// Packages under `google`.
pub mod google {
    /// Package `google.api`.
    pub mod api {
        include!("google.api.rs");
    }

    /// Package `google.type`.
    pub mod r#type {
        include!("google.type.rs");
    }
}
