//! One node among others: who else is alive, and where what they say goes.
