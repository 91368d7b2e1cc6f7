// Package tokens estimates how many tokens a text has, without a vocabulary.
//
// An estimate is needed where the truth is not at hand: before a call, to
// reserve for its prompt, and after a call that was cut off before the upstream
// reported usage. One table-driven pass over the text counts [Features]; the
// estimate is their sum, weighted. The weights of a model are a prior that suits the
// byte-pair vocabularies of current models, until its upstream has counted some texts:
// an [Estimator] learns from each of them.
//
// Text is JSON-escaped, as it stands in bodies and events: it need not be
// decoded to be counted, and it may come in pieces.
package tokens
