# adspend-pacing. Build from the repository's root:
#   docker build -f deploy/pacing.Dockerfile -t adspend-pacing .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# Dependencies alone, from manifests and empty sources: this layer is built again only when a
# manifest or the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/common/Cargo.toml crates/common/
COPY crates/billing/Cargo.toml crates/billing/
COPY crates/pacing/Cargo.toml crates/pacing/
COPY tests/Cargo.toml tests/
RUN mkdir -p crates/common/src crates/billing/src crates/pacing/src crates/pacing/benches tests/src && \
    touch crates/common/src/lib.rs crates/billing/src/lib.rs crates/pacing/src/lib.rs tests/src/lib.rs && \
    echo 'fn main() {}' >crates/billing/src/main.rs && \
    cp crates/billing/src/main.rs crates/pacing/src/main.rs
RUN cargo build --release --locked --package adspend-pacing

# The sources. Their times are set to now, because cargo compares them with the empty ones' build.
COPY crates crates
RUN find crates -name '*.rs' -exec touch {} + && \
    cargo build --release --locked --package adspend-pacing

# No shell, no package manager, nothing but libc and certificates.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/adspend-pacing /adspend-pacing
# By number, so that Kubernetes can check that it is not root.
USER 65532:65532
EXPOSE 7411
ENTRYPOINT ["/adspend-pacing"]
CMD ["serve"]
