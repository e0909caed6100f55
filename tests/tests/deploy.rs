//! What can be promised about `deploy/` without a cluster.

use std::{fs, process::Command, sync::Once, time::Duration};

use adspend_common::config::HumanDuration;
use e2e::processes;
use serde_json::Value;

use crate::tools;

const SERVICES: [&str; 2] = ["billing", "pacing"];

/// Built once: each run of the checks writes the same files.
fn manifests() -> Vec<Value> {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| drop(tools::run(".ci/deploy-check", &[])));
    let text = fs::read_to_string(tools::root().join("target/deploy/manifests.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn find<'a>(manifests: &'a [Value], kind: &str, service: &str) -> &'a Value {
    let name = format!("adspend-{service}");
    manifests
        .iter()
        .find(|manifest| manifest["kind"] == kind && manifest["metadata"]["name"] == *name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn manifests_are_valid_restricted_and_fit_the_services() {
    let manifests = manifests();
    for service in SERVICES {
        let deployment = find(&manifests, "Deployment", service);
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let pod = &deployment["spec"]["template"]["spec"];
        a_pod_is_restricted(pod);
        probes_ask_the_health_services(pod, service);
        migration_comes_first(pod, service);
        disruption_spares_all_but_one(&manifests, deployment, service);
        let selector = &find(&manifests, "Service", service)["spec"]["selector"];
        for (label, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[label], value, "the Service of {service} selects other pods");
        }
        let account = find(&manifests, "ServiceAccount", service);
        assert_eq!(account["automountServiceAccountToken"], false);
    }
}

/// The mounted configuration and the variables of each container, given to the real binary.
#[test]
fn the_services_accept_the_configuration_they_are_deployed_with() {
    let manifests = manifests();
    for service in SERVICES {
        let pod = &find(&manifests, "Deployment", service)["spec"]["template"]["spec"];
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        for container in containers(pod) {
            let resolved = resolved(service, container);
            let drain = |key: &str| {
                let text = resolved["drain"][key].as_str().unwrap();
                text.parse::<HumanDuration>().unwrap().get()
            };
            assert!(
                drain("notice") + drain("finish") < grace,
                "{service} is killed while draining"
            );
            let port = &pod["containers"][0]["startupProbe"]["grpc"]["port"];
            let listens = resolved["listen"]["grpc"].as_str().unwrap();
            assert!(listens.ends_with(&format!(":{port}")), "{service} listens on {listens}");
            assert_eq!(resolved["auth"]["mode"].as_str(), Some("tokens"), "{service}");
        }
    }
}

/// What the service prints for `config` with a container's arguments and variables; mounted files
/// have a value that stands for the real one.
fn resolved(service: &str, container: &Value) -> toml::Table {
    const MOUNTED: &str = "/run/secrets/adspend/";
    let secrets = tools::root().join("target/deploy/secrets");
    fs::create_dir_all(&secrets).unwrap();
    let hash = "0".repeat(64);
    for (name, content) in [
        ("database-url", "postgres://someone:hidden@database/adspend"),
        ("tokens", &format!("[{{ hash = \"{hash}\", role = \"operator\" }}]")),
        ("billing-token", "hidden"),
    ] {
        fs::write(secrets.join(name), content).unwrap();
    }
    let program = processes::program(&format!("adspend-{service}")).unwrap();
    let mut command = Command::new(program);
    command.arg("config").env_clear();
    let arguments = container["args"].as_array().unwrap().iter().skip(1);
    for argument in arguments.map(|argument| argument.as_str().unwrap()) {
        let file = tools::root().join(format!("deploy/base/{service}/config.toml"));
        command.arg(argument.replace("/etc/adspend/config.toml", &file.to_string_lossy()));
    }
    for variable in container["env"].as_array().unwrap() {
        let value = variable["value"].as_str().unwrap();
        let value = value.replace(MOUNTED, &format!("{}/", secrets.display()));
        command.env(variable["name"].as_str().unwrap(), value);
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{service} refuses its configuration: {complaint}");
    assert!(!printed.contains("hidden"), "{service} prints a secret:\n{printed}");
    printed.parse().unwrap()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let init = pod["initContainers"].as_array().unwrap();
    init.iter().chain(pod["containers"].as_array().unwrap())
}

/// The rules of the "restricted" pod security standard, and a little more.
fn a_pod_is_restricted(pod: &Value) {
    let context = &pod["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_ne!(context["runAsUser"], 0);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    for container in containers(pod) {
        let context = &container["securityContext"];
        let name = &container["name"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
        assert!(context["capabilities"]["add"].is_null(), "{name}");
        assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
        assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(!container["image"].as_str().unwrap().ends_with(":latest"), "{name}");
    }
}

fn probes_ask_the_health_services(pod: &Value, service: &str) {
    let container = &pod["containers"][0];
    let ports = container["ports"].as_array().unwrap();
    let grpc = ports.iter().find(|port| port["name"] == "grpc").unwrap();
    for (probe, health) in [
        ("startupProbe", "liveness"),
        ("livenessProbe", "liveness"),
        ("readinessProbe", "readiness"),
    ] {
        let asked = &container[probe]["grpc"];
        assert_eq!(asked["service"], health, "{probe} of {service}");
        assert_eq!(asked["port"], grpc["containerPort"], "{probe} of {service}");
    }
}

fn migration_comes_first(pod: &Value, service: &str) {
    let init = &pod["initContainers"][0];
    assert_eq!(init["args"][0], "migrate");
    assert_eq!(init["image"], pod["containers"][0]["image"], "{service} migrates with itself");
    assert_eq!(pod["containers"][0]["args"][0], "serve");
}

fn disruption_spares_all_but_one(manifests: &[Value], deployment: &Value, service: &str) {
    let budget = &find(manifests, "PodDisruptionBudget", service)["spec"];
    assert_eq!(budget["maxUnavailable"], 1, "{service}");
    assert_eq!(budget["selector"], deployment["spec"]["selector"], "{service}");
    assert!(deployment["spec"]["replicas"].as_i64().unwrap() >= 2, "{service} is one replica");
}
