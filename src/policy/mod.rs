//! May it: the question that policy answers, and the permit that only an allow makes.
