//! nginx as a proxy: the usual program in front of a server.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use tiershift_testkit::server::Server;
use tiershift_testkit::wait::wait_until;

/// One that passes everything to a server. Ended on drop.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) server: Server,
}

impl Nginx {
    /// Starts one with its files in a folder; `None` if it is not installed.
    pub(crate) fn start(folder: &Path, to: &Server) -> Result<Option<Self>, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {kind};"))
            .join(" ");
        // As its manual recommends for streams and persistent connections.
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 2048; }}\n\
             http {{ access_log off; {temporary}\n\
             upstream model {{ server 127.0.0.1:{}; keepalive 64; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{\n\
             proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;\n\
             }} }} }}\n",
            to.port
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let started = Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&file).spawn();
        let child = match started {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            started => started?,
        };
        let nginx = Self { child, server: Server { port, key: to.key.clone() } };
        wait_until("nginx", || nginx.server.try_get("/health").is_ok());
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
