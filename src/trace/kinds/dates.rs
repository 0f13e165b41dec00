//! What recordings state about the wall clock.

use super::*;

#[test]
fn dates_are_kept_as_they_are_written() {
    let mapping = |form: &str| CPU.replace("\"seconds\"", &format!("\"{form}\""));
    for (form, first, want) in [
        ("iso8601", "2031-03-04T08:00:00+02:00", "2031-03-04T08:00:00+02:00"),
        ("iso8601", "2031-03-04 08:00:00", "2031-03-04T08:00:00"),
        ("%Y-%m-%d %H:%M:%S", "2031-03-04 08:00:00", "2031-03-04T08:00:00"),
        ("seconds", "1931328000", "2031-03-15T08:00:00Z"),
        // Seconds since the recording began.
        ("seconds", "5", "unknown"),
    ] {
        let came = good(&format!("t,cpu\n{first},1\n"), &mapped(&mapping(form)));
        assert_eq!(came.began(), want, "{first}");
    }
}

#[test]
fn a_person_says_the_date_and_the_rows_say_the_time_of_day() {
    let with = |form: &str, start: Option<&str>| {
        let mapping = CPU.replace("\"seconds\"", &format!("\"{form}\""));
        let starts_at = start.map(|start| start.parse().unwrap());
        ReadOptions { told: Told { starts_at, ..Told::default() }, ..mapped(&mapping) }
    };
    let midnight = "t,cpu\n23:59:58,1\n00:00:03,2\n";
    let came = good(midnight, &with("%H:%M:%S", None));
    assert_eq!((came.times(), came.began()), (vec![0.0, 5.0], "unknown".to_owned()));
    came.notes("have no date");
    let came = good(midnight, &with("%H:%M:%S", Some("2031-03-04")));
    assert_eq!((came.began(), came.header.notes.len()), ("2031-03-04T23:59:58".to_owned(), 0));
    let came = good(midnight, &with("%H:%M:%S", Some("2031-03-04T20:00:00+01:00")));
    assert_eq!(came.began(), "2031-03-04T23:59:58+01:00");
    came.notes("the row's own time is taken");
    // No year, as dstat writes it: across a leap day, if the year has one.
    let leap = "t,cpu\n28-02 23:59:58,1\n29-02 00:00:03,2\n";
    let came = good(leap, &with("%d-%m %H:%M:%S", Some("2028-02-28")));
    assert_eq!((came.times(), came.began()), (vec![0.0, 5.0], "2028-02-28T23:59:58".to_owned()));
    let came = good(leap, &with("%d-%m %H:%M:%S", None));
    assert_eq!((came.times(), came.began()), (vec![0.0], "unknown".to_owned()));
    came.notes("have no year");
    // Another date than the file's own.
    let came = good("t,cpu\n1931328000,1\n", &with("seconds", Some("2031-03-04T08:00:00Z")));
    assert_eq!(came.began(), "2031-03-04T08:00:00Z");
    came.notes("by the file itself");
    // A mapping may state it as well.
    let key = "forms = [\"%H:%M:%S\"]\nstarts-at = \"2031-03-04\"";
    let came = good(midnight, &mapped(&CPU.replace("forms = [\"seconds\"]", key)));
    assert_eq!(came.began(), "2031-03-04T23:59:58");
}

#[test]
fn what_is_left_out_of_a_replay_moves_the_wall_clock() {
    let text = "t,cpu\n1931328000,1\n1931328005,2\n1931328010,3\n1931368000,4\n1931368005,5\n";
    let cut = good(text, &ReadOptions { cut_silences: true, ..mapped(CPU) });
    let shows = |at| cut.header.clock.at(Timestamp::from_secs(at)).unwrap().to_string();
    assert_eq!(cut.times(), [0.0, 5.0, 10.0, 30.0, 35.0]);
    assert_eq!([shows(10), shows(35)], ["2031-03-15T08:00:10Z", "2031-03-15T19:06:45Z"]);
    // A native trace has it in its preamble, as an import writes it.
    let native = "# tiershift resource trace 1\n# started_at: 2031-03-15T13:20:00\n\
                  # clock_at: 10000000000 2031-03-15T14:20:10\n# clock_at: soon\n\
                  at_ns,cpu_others_milli_percent\n0,1\n5000000000,1\n10000000000,1\n15000000000,1\n";
    let came = good(native, &plain());
    let shows = |at| came.header.clock.at(Timestamp::from_secs(at)).unwrap().to_string();
    assert_eq!([shows(5), shows(15)], ["2031-03-15T13:20:05", "2031-03-15T14:20:15"]);
    came.notes("`# clock_at: soon` is not a time");
}
