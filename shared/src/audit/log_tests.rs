//! The log's files: what is written is there after a crash, and what somebody does to them is found.

use super::*;
use tempfile::TempDir;

const NOW_S: u64 = 1_800_000_000;

fn log_of(count: usize) -> (TempDir, AuditLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path(), NOW_S).unwrap();
    for n in 0..count {
        log.record(NOW_S + n as u64, Act::PictureAsked, &Note::about(n).by("A. Person").with("a bag was left"))
            .unwrap();
    }
    (dir, log)
}

fn check(dir: &TempDir) -> Result<Checked, AuditError> {
    AuditLog::check(dir.path(), None, |_| {})
}

fn fault(dir: &TempDir, remembered: Option<&Head>) -> Fault {
    match AuditLog::check(dir.path(), remembered, |_| {}) {
        Err(AuditError::Fault(_, fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn edit(dir: &TempDir, change: impl FnOnce(Vec<String>) -> Vec<String>) {
    let path = dir.path().join(FILE);
    let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    fs::write(&path, change(lines).join("\n") + "\n").unwrap();
}

#[test]
fn a_log_is_for_its_owner_and_goes_on_over_restarts_and_beside_other_programs() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, log) = log_of(3);
    let other = AuditLog::open(dir.path(), NOW_S).unwrap();
    let head = other.record(NOW_S, Act::DeviceRevoked, &Note::about("gate-1")).unwrap();
    assert_eq!(log.head(), Some(head.clone()), "the line of another program is seen");
    assert_eq!(log.record(NOW_S, Act::Started, &Note::default()).unwrap().number, 5);
    let checked = check(&dir).unwrap();
    assert_eq!((checked.first, checked.head, checked.torn_bytes), (Some(1), log.head(), 0));
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(head.to_string().parse::<Head>().unwrap(), head);
    assert!("5:xyz".parse::<Head>().unwrap_err().contains("NUMBER:DIGEST"));
}

#[test]
fn what_somebody_does_to_it_is_found_and_said_where() {
    type Edit = fn(Vec<String>) -> Vec<String>;
    let cases: [(Edit, Fault); 5] = [
        (
            |mut lines| {
                lines[2] = lines[2].replace("A. Person", "nobody");
                lines
            },
            Fault::Changed(3),
        ),
        (
            |mut lines| {
                lines.remove(2);
                lines
            },
            Fault::Removed(3, 3),
        ),
        (
            |mut lines| {
                lines.swap(3, 4);
                lines
            },
            Fault::Removed(4, 4),
        ),
        (
            |mut lines| {
                lines[1].truncate(40);
                lines
            },
            Fault::Unreadable(1),
        ),
        (|lines| lines[1..].to_vec(), Fault::Removed(1, 1)),
    ];
    for (change, expect) in cases {
        let (dir, _) = log_of(6);
        edit(&dir, change);
        assert_eq!(fault(&dir, None), expect);
    }
}

#[test]
fn what_is_cut_off_the_end_is_found_by_who_remembers_the_head() {
    let (dir, log) = log_of(6);
    let head = log.head().unwrap();
    edit(&dir, |mut lines| {
        lines.truncate(4);
        lines
    });
    assert!(check(&dir).is_ok(), "the chain alone cannot tell");
    assert_eq!(fault(&dir, Some(&head)), Fault::CutOff(5, 6));
    // Written anew to the same length.
    let again = AuditLog::open(dir.path(), NOW_S).unwrap();
    for _ in 0..2 {
        again.record(NOW_S, Act::Started, &Note::default()).unwrap();
    }
    assert!(check(&dir).is_ok());
    assert_eq!(fault(&dir, Some(&head)), Fault::Rewritten(6));
    assert!(AuditLog::check(dir.path(), again.head().as_ref(), |_| {}).is_ok());
}

#[test]
fn half_a_line_after_a_crash_is_named_and_healed() {
    for (whole, torn) in [(3, "{\"number\":4,\"ti"), (0, "{\"numb"), (1, "x")] {
        let (dir, log) = log_of(whole);
        let path = dir.path().join(FILE);
        File::options().create(true).append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        assert_eq!(check(&dir).unwrap().torn_bytes, torn.len());
        drop(log);
        let log = AuditLog::open(dir.path(), NOW_S).unwrap();
        assert_eq!(log.record(NOW_S, Act::Started, &Note::default()).unwrap().number, whole as u64 + 2);
        let mut told = Vec::new();
        let checked = AuditLog::check(dir.path(), None, |line| told.push(line.clone())).unwrap();
        assert_eq!(checked.torn_bytes, 0);
        let healed = &told[whole];
        assert_eq!(healed.act, "log_healed");
        assert!(healed.detail.as_ref().unwrap().starts_with(&format!("{} bytes", torn.len())));
    }
}

#[test]
fn a_damaged_log_is_set_aside_and_told_for_good() {
    let (dir, _) = log_of(4);
    edit(&dir, |mut lines| {
        lines[1] = lines[1].replace("bag", "hat");
        lines
    });
    let log = AuditLog::open(dir.path(), NOW_S).unwrap();
    assert_eq!(log.record(NOW_S, Act::Started, &Note::default()).unwrap().number, 6);
    assert!(dir.path().join("audit.log.damaged").exists());
    let Fault::BeginsAnew(5, why) = fault(&dir, None) else { panic!() };
    assert!(why.contains("line 2 was changed") && why.contains("SHA-256"), "{why}");
    assert!(log.problems()[0].contains("line 2 was changed"));
    // Once is enough: the next start goes on, and says it still.
    let log = AuditLog::open(dir.path(), NOW_S).unwrap();
    assert!(log.problems()[0].contains("says that the log before it was damaged"));
    assert_eq!(log.record(NOW_S, Act::Started, &Note::default()).unwrap().number, 7);
}

#[test]
fn it_is_bounded_and_the_chain_runs_through_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog { file_bytes_max: 2_000, ..AuditLog::open(dir.path(), NOW_S).unwrap() };
    for n in 0..200 {
        log.record(NOW_S, Act::PictureAsked, &Note::about(n)).unwrap();
    }
    let files = || fs::read_dir(dir.path()).unwrap().flatten().filter(|file| file.file_name() != "audit.log.lock");
    assert_eq!(files().count(), FILES_MAX);
    assert!(files().all(|file| file.metadata().unwrap().len() < 3_000));
    let checked = check(&dir).unwrap();
    assert!(checked.first.unwrap() > 1 && checked.head == log.head(), "{checked:?}");
    // The oldest may go by itself only: somebody else's hand is seen.
    let oldest = dir.path().join(format!("{FILE}.{}", FILES_MAX - 1));
    let kept = fs::read(&oldest).unwrap();
    fs::remove_file(&oldest).unwrap();
    assert!(matches!(fault(&dir, None), Fault::Removed(..)));
    fs::write(&oldest, kept).unwrap();
    fs::remove_file(dir.path().join(format!("{FILE}.3"))).unwrap();
    assert!(matches!(fault(&dir, None), Fault::Removed(..)));
}

#[test]
fn the_machine_may_stop_between_two_files() {
    let (dir, _) = log_of(3);
    fs::rename(dir.path().join(FILE), dir.path().join("audit.log.1")).unwrap();
    let log = AuditLog::open(dir.path(), NOW_S).unwrap();
    assert_eq!(log.record(NOW_S, Act::Started, &Note::default()).unwrap().number, 5, "one says that it goes on");
    assert_eq!(check(&dir).unwrap().first, Some(1));
}

#[test]
fn what_cannot_be_written_down_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    let said = AuditLog::lazily(dir.path()).record(NOW_S, Act::Started, &Note::default()).unwrap_err().to_string();
    assert!(said.contains("audit.log cannot be read or written"), "{said}");
}

#[test]
fn a_flood_of_refusals_does_not_push_out_what_matters() {
    let (dir, log) = log_of(1);
    for _ in 0..5_000 {
        log.record_damped(NOW_S, Act::LiveRefused, &Note::default()).unwrap();
    }
    assert!(check(&dir).unwrap().head.unwrap().number < 100);
}
