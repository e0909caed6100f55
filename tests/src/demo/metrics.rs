//! Reads a counter from a service's Prometheus page.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::processes::Failure;

const LIMIT: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// How many calls of a gRPC service the process has answered.
pub(crate) async fn calls(address: SocketAddr, service: &str) -> Result<u64, Failure> {
    let page = timeout(LIMIT, fetch(address))
        .await
        .map_err(|_| format!("http://{address}/metrics: no answer in {LIMIT:?}"))?
        .map_err(|error| format!("http://{address}/metrics: {error}"))?;
    Ok(count(&page, service))
}

async fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0 ends the body by closing, so that the answer is the page and its head.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Sums the counts of the calls' histogram over the methods of a service.
fn count(page: &str, service: &str) -> u64 {
    let method = format!("rpc_method=\"{service}/");
    page.lines()
        .filter(|line| line.starts_with("rpc_server_call_duration") && line.contains(&method))
        .filter_map(|line| line.split_once('}').map(|(series, value)| (series, value.trim())))
        .filter(|(series, _)| series.split('{').next().is_some_and(|name| name.ends_with("_count")))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_over_methods_and_codes_of_one_service() {
        let page = "\
# TYPE rpc_server_call_duration_seconds histogram
rpc_server_call_duration_seconds_bucket{rpc_method=\"a.v1.HoldService/OpenHolds\",le=\"1\"} 7
rpc_server_call_duration_seconds_count{rpc_method=\"a.v1.HoldService/OpenHolds\",code=\"OK\"} 7
rpc_server_call_duration_seconds_count{rpc_method=\"a.v1.HoldService/OpenHolds\",code=\"ABORTED\"} 1
rpc_server_call_duration_seconds_count{rpc_method=\"a.v1.HoldService/SettleHolds\",code=\"OK\"} 30
rpc_server_call_duration_seconds_count{rpc_method=\"a.v1.AuditService/VerifyLedger\",code=\"OK\"} 1
rpc_server_call_duration_seconds_sum{rpc_method=\"a.v1.HoldService/OpenHolds\"} 0.5
";
        assert_eq!(count(page, "a.v1.HoldService"), 38);
        assert_eq!(count(page, "a.v1.Other"), 0);
    }
}
