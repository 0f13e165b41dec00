//! A headless Chromium, driven over WebDriver: JSON over HTTP on loopback.
//!
//! Debian has both as `chromium` and `chromium-driver`. If they are missing, the test prints its name and is skipped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tiershift_testkit::skip::skip;
use tiershift_testkit::wait::{PATIENCE, wait_for};

/// The driver with one window. Both end on drop.
pub(super) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a window, or reports that the test is skipped because a program is missing.
    pub(super) fn start(test: &str) -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                skip("chromedriver", test, &error.to_string());
                return None;
            }
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map(Result::unwrap).find_map(|line| {
            line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let profile = tempfile::tempdir().unwrap();
        let place = profile.path().display().to_string();
        let mut browser = Self {
            driver,
            port: port.expect("chromedriver says where it listens"),
            session: String::new(),
            _profile: profile,
        };
        let options = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            format!("--user-data-dir={place}"),
        ]);
        let wish = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": options},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }}});
        let session = browser.call("POST", "/session", &wish);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    pub(super) fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// Returns the result of a script.
    pub(super) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns true.
    #[track_caller]
    pub(super) fn wait_for(&self, what: &str, script: &str) {
        wait_for(|| {
            if self.run(script) == true {
                return Ok(());
            }
            let text = self.run("return document.body.innerText");
            Err(format!("{what} does not come: {text}"))
        });
    }

    /// Presses a key of WebDriver's table.
    pub(super) fn press(&self, key: char) {
        let keys = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": keys});
        self.command("/actions", &json!({"actions": [keyboard]}));
    }

    /// Moves the pointer to a place on the screen, from its upper left.
    pub(super) fn point_at(&self, x: u64, y: u64) {
        let moves = json!([{"type": "pointerMove", "duration": 0, "x": x, "y": y}]);
        let mouse = json!({"type": "pointer", "id": "mouse", "actions": moves});
        self.command("/actions", &json!({"actions": [mouse]}));
    }

    pub(super) fn set_width(&self, width: u32) {
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sends a command of Chromium's own protocol.
    pub(super) fn cdp(&self, command: &str, params: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// Returns the addresses that were fetched since the last call, without the browser's built-in first page, which is not
    /// fetched.
    pub(super) fn requests(&self) -> Vec<String> {
        let messages = self.log("performance").into_iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).unwrap();
            let is_request = message["message"]["method"] == "Network.requestWillBeSent";
            let url = &message["message"]["params"]["request"]["url"];
            is_request.then(|| url.as_str().unwrap().to_owned())
        });
        messages.filter(|url| !url.starts_with("data:") && !url.starts_with("chrome")).collect()
    }

    /// Returns the accessible name of the focused element.
    pub(super) fn focused_name(&self) -> String {
        let element =
            self.call("GET", &format!("/session/{}/element/active", self.session), &Value::Null);
        let id = element.as_object().and_then(|it| it.values().next()).and_then(Value::as_str);
        let path = format!("/session/{}/element/{}/computedlabel", self.session, id.unwrap());
        self.call("GET", &path, &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Returns the log of this kind since the last call.
    pub(super) fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.command("/se/log", &json!({"type": kind}));
        log.as_array().cloned().unwrap_or_default()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        // It keeps the connection open, whatever the request says.
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 2 {
            let value = line.to_ascii_lowercase();
            if let Some(value) = value.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut reply = vec![0; length];
        stream.read_exact(&mut reply).unwrap();
        let mut answer: Value = serde_json::from_slice(&reply).unwrap();
        assert!(answer["value"]["error"].is_null(), "{method} {path} {body}: {answer:#}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
