//! The wire format of protocol buffers, walked without copying: fields of one message, in order.
//!
//! No bytes make it panic, and it never allocates.

use super::OnnxError;

/// The value of a field.
pub(crate) enum Value<'a> {
    /// A variable-length integer.
    Number(u64),
    /// A string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// The fields of one message in order; after an error there are none.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// One variable-length integer.
    pub(super) fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { OnnxError::CutShort } else { OnnxError::NotOnnx })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], OnnxError> {
        let length = usize::try_from(length).map_err(|_| OnnxError::CutShort)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(OnnxError::CutShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), OnnxError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| OnnxError::NotOnnx)?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // 3 and 4 are groups, which ONNX never had.
            _ => return Err(OnnxError::NotOnnx),
        };
        match tag >> 3 {
            0 => Err(OnnxError::NotOnnx),
            number => Ok((number, value)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
