//! Rows of `charge` in PostgreSQL's binary COPY format, written straight into one buffer: no
//! value of a row is boxed on its way.

use adspend_common::time::Day;
use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Datelike, Utc};

use super::batch::NewRow;
use super::item::{Charge, Item, Target, reserved};

/// Columns of [`super::store::COPY_CHARGES`].
const COLUMNS: i16 = 10;
/// What a row takes with an id of a UUID's length; only a guess for the first allocation.
const ROW_BYTES: usize = 140;
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// 2000-01-01, where PostgreSQL counts days and microseconds from.
const EPOCH_DAYS_FROM_CE: i32 = 730_120;
const EPOCH_UNIX_MICROS: i64 = 946_684_800_000_000;

/// All rows, with the header and the trailer of the format.
pub(super) fn rows(items: &[Item], rows: &[NewRow], now: DateTime<Utc>) -> Bytes {
    let mut out = BytesMut::with_capacity(rows.len() * ROW_BYTES + 32);
    out.put_slice(SIGNATURE);
    out.put_i32(0);
    out.put_i32(0);
    for row in rows {
        if let Some(Item::Charge(charge)) = items.get(row.item) {
            put_row(&mut out, charge, row, now);
        }
    }
    out.put_i16(-1);
    out.freeze()
}

fn put_row(out: &mut BytesMut, charge: &Charge, row: &NewRow, now: DateTime<Utc>) {
    let (campaign_no, admission, reserved) = match &charge.target {
        Target::Admission(token) => (
            token.campaign_no,
            Some((token.slice_no, i64::from(token.admission_no))),
            reserved(token),
        ),
        Target::Late { campaign_no, .. } => (*campaign_no, None, charge.price),
    };
    out.put_i16(COLUMNS);
    put_bigint(out, charge.account_no());
    put_text(out, &charge.id);
    put_bigint(out, campaign_no);
    match admission {
        Some((slice_no, admission_no)) => {
            put_bigint(out, slice_no);
            put_bigint(out, admission_no);
        }
        None => {
            out.put_i32(-1);
            out.put_i32(-1);
        }
    }
    put_bigint(out, reserved.micros());
    put_bigint(out, charge.price.micros());
    put_day(out, row.day);
    out.put_i32(1);
    out.put_u8(u8::from(row.late));
    put_bigint(out, now.timestamp_micros() - EPOCH_UNIX_MICROS);
}

fn put_bigint(out: &mut BytesMut, value: i64) {
    out.put_i32(8);
    out.put_i64(value);
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).expect("an id has at most 64 bytes"));
    out.put_slice(text.as_bytes());
}

fn put_day(out: &mut BytesMut, day: Day) {
    out.put_i32(4);
    out.put_i32(day.date().num_days_from_ce() - EPOCH_DAYS_FROM_CE);
}
