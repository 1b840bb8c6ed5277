# MCMCglmm: parameter-expanded priors of the groups' covariances (for one coefficient half-t as bayou's, its df 1),
# normal priors of the coefficients as bayou's. Its Poisson and binomial models have an effect of every observation
# in any case, so that it takes those models that have one too. Argument: the folder of this file.

importing <- system.time(suppressPackageStartupMessages(library(MCMCglmm)))[["elapsed"]]
source(file.path(commandArgs(trailingOnly = TRUE)[1], "shared.R"))

own <- sapply(task$groups, function(group) group$levels == task$n)
groups <- if (task$family == "gaussian") task$groups else task$groups[!own]
bars <- sapply(groups, function(group) {
  if (length(group$slopes)) sprintf("us(1 + %s):%s", paste(group$slopes, collapse = " + "), group$column)
  else group$column
})
left <- if (task$family == "binomial") "cbind(y, trials - y)" else "y"
family <- switch(task$family, gaussian = "gaussian", poisson = "poisson", binomial = "multinomial2")
centre <- task$centre[-1]
spread <- task$widths^2
V <- diag(spread, length(spread))
if (length(slopes)) {
  V[1, 1] <- spread[1] + sum(centre^2 * spread[-1])
  V[1, -1] <- V[-1, 1] <- -centre * spread[-1]
}
G <- lapply(groups, function(group) {
  p <- length(group$scales)
  list(V = diag(p), nu = p, alpha.mu = rep(0, p), alpha.V = diag(group$scales^2, p))
})
names(G) <- sprintf("G%d", seq_along(G))
prior <- list(
  B = list(mu = c(task$level, rep(0, length(slopes))), V = V), R = list(V = 1, nu = 0.002)
)
if (length(G)) prior$G <- G
fixed <- as.formula(paste(left, "~", paste(c("1", slopes), collapse = " + ")))
random <- if (length(groups)) as.formula(paste("~", paste(bars, collapse = " + "))) else NULL
drawn <- list()
took <- c(wall = 0, processor = 0)
for (chain in seq_len(task$chains)) {
  set.seed(100 * task$seed + chain)
  one <- NULL
  took <- took + seconds(one <- MCMCglmm(
    fixed, random = random, data = data, family = family, prior = prior, nitt = task$warmup + task$draws,
    burnin = task$warmup, thin = 1, verbose = FALSE, pr = FALSE
  ))
  values <- list(beta0 = one$Sol[, "(Intercept)"])
  for (k in seq_along(slopes)) values[[paste0("beta", k)]] <- one$Sol[, slopes[k]]
  at <- 0
  for (group in groups) {
    p <- length(group$scales)
    # the covariances of a group stand column by column
    covariance <- function(i, k) one$VCV[, at + (k - 1) * p + i]
    for (i in seq_len(p)) values[[sprintf("sd_%s_%d", group$column, i - 1)]] <- sqrt(covariance(i, i))
    for (k in seq_len(p)) for (i in seq_len(k - 1)) {
      values[[sprintf("cor_%s_%d_%d", group$column, i - 1, k - 1)]] <-
        covariance(i, k) / sqrt(covariance(i, i) * covariance(k, k))
    }
    at <- at + p^2
  }
  units <- sqrt(one$VCV[, "units"])
  values[[if (task$family == "gaussian") "sigma" else sprintf("sd_%s_0", task$groups[[which(own)[1]]]$column)]] <- units
  drawn[[chain]] <- do.call(cbind, lapply(values, as.numeric))
}
leave(drawn, importing, 0, took)
