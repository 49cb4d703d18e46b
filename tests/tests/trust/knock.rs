//! Knocks at the door of enrolment as no agent of ours would: any bytes, by any certificate.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::trust::door::DOOR_NAME;
use picket_shared::trust::tls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

const ANSWER: Duration = Duration::from_secs(30);

/// Sends a request as it is and returns all that comes back; nothing where there is no TLS.
pub async fn raw(port: u16, config: Arc<ClientConfig>, request: &[u8]) -> std::io::Result<String> {
    let talk = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut stream = TlsConnector::from(config).connect(ServerName::try_from(DOOR_NAME).unwrap(), stream).await?;
        // It may be refused in the middle.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        if answer.is_empty() {
            read?;
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(ANSWER, talk).await.unwrap()
}

/// Posts a body.
pub async fn post(port: u16, config: Arc<ClientConfig>, path: &str, body: &[u8]) -> std::io::Result<String> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n\r\n", body.len());
    raw(port, config, &[head.as_bytes(), body].concat()).await
}
