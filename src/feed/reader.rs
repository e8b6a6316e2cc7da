//! Where a reader stands in one partition, and what it does next.
//!
//! ```text
//!  nowhere ──page──▶ head known ──set──▶ following ──page──▶ following
//!                        ▲                   │ broken: gone, another tag, another incarnation
//!                        └───────────────────┘
//! ```

use crate::domain::feed::ReadPosition;
use crate::domain::time::Stamp;
use crate::store::feed::position;
use crate::store::{Continuity, Page, Recorded};

/// What to ask the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The events after a position.
    Page(Option<ReadPosition>),
    /// Everything that is revoked.
    Set,
}

/// What a page was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These events, and whether they are all that there are.
    Events(Vec<Recorded>, bool),
    /// They do not go on from where the reader stands: the whole set is next.
    Lost,
}

/// The reader of one partition.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    at: At,
    /// The incarnation that what was read lies in.
    incarnation: Stamp,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Nowhere,
    /// The set is to be loaded; what follows this event may be missing from it.
    Head(Option<ReadPosition>),
    /// Everything up to this event was read; `None`: everything, and there was no event.
    Following(Option<ReadPosition>),
}

impl Reader {
    /// What to ask next.
    pub fn ask(&self) -> Ask {
        match self.at {
            At::Nowhere => Ask::Page(None),
            At::Head(_) => Ask::Set,
            At::Following(position) => Ask::Page(position),
        }
    }

    /// Takes the answer to [`Ask::Page`].
    // INVARIANT (log matching): what was read is a part of the partition's history only while the event that the reader stands
    // at is there, with its tag, in the same incarnation.
    pub fn page(&mut self, page: Page) -> Found {
        let At::Following(from) = self.at else { return self.lost(&page) };
        if page.meta.incarnation != self.incarnation {
            return self.lost(&page);
        }
        match page.events {
            Continuity::Continued(events) => {
                if let Some(last) = events.last() {
                    self.at = At::Following(Some(position(last)));
                }
                Found::Events(events, !page.more)
            }
            Continuity::Broken if from.is_none() && page.head.is_none() => {
                Found::Events(Vec::new(), true)
            }
            Continuity::Broken => self.lost(&page),
        }
    }

    /// Takes note that the answer to [`Ask::Set`] was merged.
    // INVARIANT (head before set): what the set lacks was committed after the head, and is read next.
    pub fn loaded(&mut self) {
        if let At::Head(head) = self.at {
            self.at = At::Following(head);
        }
    }

    fn lost(&mut self, page: &Page) -> Found {
        self.at = At::Head(page.head);
        self.incarnation = page.meta.incarnation;
        Found::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing::{event, meta, page};

    fn following(position: Option<ReadPosition>) -> Reader {
        let mut reader = Reader::default();
        let head = Page { head: position, ..page(meta(1, 10), Continuity::Broken) };
        assert_eq!(reader.ask(), Ask::Page(None));
        assert_eq!(reader.page(head), Found::Lost);
        assert_eq!(reader.ask(), Ask::Set);
        reader.loaded();
        assert_eq!(reader.ask(), Ask::Page(position));
        reader
    }

    #[test]
    fn a_new_reader_loads_the_set_and_goes_on_from_the_head_that_it_saw_before() {
        let head = position(&event(1, 5, vec![]));
        let mut reader = following(Some(head));
        let next = event(1, 7, vec![]);
        let found = reader.page(page(meta(1, 10), Continuity::Continued(vec![next.clone()])));
        assert_eq!(found, Found::Events(vec![next.clone()], true));
        assert_eq!(reader.ask(), Ask::Page(Some(position(&next))));
    }

    #[test]
    fn a_page_with_more_to_come_is_not_all() {
        let mut reader = following(Some(position(&event(1, 5, vec![]))));
        let part = Page { more: true, ..page(meta(1, 9), Continuity::Continued(vec![])) };
        assert_eq!(reader.page(part), Found::Events(vec![], false));
    }

    #[test]
    fn what_is_broken_or_of_another_incarnation_is_loaded_anew() {
        let head = position(&event(1, 5, vec![]));
        for found in [
            page(meta(1, 10), Continuity::Broken),
            page(meta(2, 20), Continuity::Continued(vec![event(2, 20, vec![])])),
        ] {
            let mut reader = following(Some(head));
            assert_eq!(reader.page(found), Found::Lost);
            assert_eq!(reader.ask(), Ask::Set);
        }
    }

    #[test]
    fn a_partition_without_events_is_read_once_its_set_is() {
        let mut reader = following(None);
        assert_eq!(reader.page(page(meta(1, 10), Continuity::Broken)), Found::Events(vec![], true));
        let first = position(&event(1, 11, vec![]));
        let begun = Page { head: Some(first), ..page(meta(1, 11), Continuity::Broken) };
        assert_eq!(reader.page(begun), Found::Lost, "its first event came since");
    }
}
