//! The little of DER (X.690) that the task extension is made of: definite lengths, one spelling for everything.

/// Universal tags, with the bit for constructed forms.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const SEQUENCE: u8 = 0x30;

/// Tag, length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0x7f));
            out.extend(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A number that is not negative: without leading zeros, but one where the first bit would read as a sign.
pub(super) fn integer(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut content: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|byte| byte & 0x80 != 0) {
        content.insert(0, 0);
    }
    element(INTEGER, &content)
}

/// Elements, one after another.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The content of the next element; `None` if it has another tag, is cut short, or its length has a shorter spelling.
    pub(super) fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(*first) {
            short @ 0..=0x7f => (short, rest),
            // Long form, of one or two bytes: nothing that we read is longer.
            long @ (0x81 | 0x82) => {
                let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
                let length = bytes.iter().fold(0, |n, byte| (n << 8) | usize::from(*byte));
                let least = if long == 0x81 { 0x80 } else { 0x100 };
                if length < least {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (*found == tag).then_some(content)
    }

    pub(super) fn integer(&mut self) -> Option<u64> {
        let content = self.next(INTEGER)?;
        let (first, rest) = content.split_first()?;
        let padded = *first == 0 && rest.first().is_some_and(|byte| byte & 0x80 == 0);
        if first & 0x80 != 0 || padded || rest.len() > 8 || (rest.len() == 8 && *first != 0) {
            return None;
        }
        Some(content.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte)))
    }

    pub(super) fn text(&mut self, tag: u8) -> Option<&'a str> {
        let text = std::str::from_utf8(self.next(tag)?).ok()?;
        (tag == UTF8_STRING || text.is_ascii()).then_some(text)
    }

    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.next(SEQUENCE).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        for (number, der) in [
            (0, vec![2, 1, 0]),
            (127, vec![2, 1, 127]),
            (128, vec![2, 2, 0, 128]),
            ((1 << 53) - 1, vec![2, 7, 0x1f, 255, 255, 255, 255, 255, 255]),
            (u64::MAX, vec![2, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            assert_eq!(integer(number), der);
            assert_eq!(Elements(&der).integer(), Some(number));
        }
        for wrong in [
            vec![2, 0],
            vec![2, 1, 0x80],
            vec![2, 2, 0, 127],
            vec![2, 2, 0xff, 0x7f],
            vec![2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            vec![2, 10, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0],
            vec![4, 1, 0],
        ] {
            assert_eq!(Elements(&wrong).integer(), None, "{wrong:?}");
        }
    }

    #[test]
    fn class_15_lengths_that_lie_or_have_a_shorter_spelling_are_refused() {
        for length in [0, 1, 127, 128, 255, 256, 4_000] {
            let content = vec![9; length];
            let der = element(OCTET_STRING, &content);
            assert_eq!(Elements(&der).next(OCTET_STRING), Some(content.as_slice()));
            for cut in 0..der.len() {
                assert_eq!(Elements(&der[..cut]).next(OCTET_STRING), None);
            }
        }
        let long = |head: &[u8], n: usize| [head, vec![0; n].as_slice()].concat();
        for wrong in [
            vec![4, 0x80, 0, 0],
            long(&[4, 0x81, 1], 1),
            long(&[4, 0x82, 0, 0x80], 0x80),
            long(&[4, 0x83, 0, 1, 0], 0x100),
            long(&[4, 0x84, 255, 255, 255, 255], 9),
        ] {
            assert_eq!(Elements(&wrong).next(OCTET_STRING), None);
        }
    }
}
