//! What is refused, and by which word: a table of attacks, each as one change of what an honest site says.
