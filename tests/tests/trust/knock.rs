//! Knocks at the door of enrolment as no agent of ours would: any bytes, by any certificate.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::trust::door::DOOR_NAME;
use picket_shared::trust::tls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

const ANSWER: Duration = Duration::from_secs(30);

/// Shakes hands, from this address of this machine.
pub async fn shaken(from: [u8; 4], port: u16, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    TlsConnector::from(config).connect(ServerName::try_from(DOOR_NAME).unwrap(), stream).await
}

/// Sends a request as it is and returns all that comes back; nothing where there is no TLS.
pub async fn raw(port: u16, config: Arc<ClientConfig>, request: &[u8]) -> std::io::Result<String> {
    raw_from([127, 0, 0, 1], port, config, request).await
}

/// The same from another address of this machine.
pub async fn raw_from(from: [u8; 4], port: u16, config: Arc<ClientConfig>, request: &[u8]) -> std::io::Result<String> {
    let talk = async {
        let mut stream = shaken(from, port, config).await?;
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

/// A request that posts a body.
pub fn posted(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Posts a body.
pub async fn post(port: u16, config: Arc<ClientConfig>, path: &str, body: &[u8]) -> std::io::Result<String> {
    raw(port, config, &posted(path, body)).await
}
