# brms: bayou's priors, but for sds and correlations that are independent of each other (half-t(2) and uniform,
# the margins of bayou's). The model is compiled first, apart. Argument: the folder of this file.

importing <- system.time(suppressPackageStartupMessages(library(brms)))[["elapsed"]]
source(file.path(commandArgs(trailingOnly = TRUE)[1], "shared.R"))

# Debian keeps Boost's headers where every C++ compiler looks, not in the package where rstan does
if (!isTRUE(file.exists(rstan::rstan_options("boost_lib")))) rstan::rstan_options(boost_lib = "/usr/include")

left <- if (task$family == "binomial") "y | trials(trials)" else "y"
family <- switch(task$family, gaussian = gaussian(), poisson = poisson(), bernoulli = bernoulli(), binomial())
model <- as.formula(paste(left, "~", right))
number <- function(x) format(x, digits = 17)
priors <- set_prior(sprintf("normal(%s, %s)", number(task$level), number(task$widths[1])), class = "Intercept")
for (k in seq_along(slopes)) {
  priors <- priors + set_prior(sprintf("normal(0, %s)", number(task$widths[k + 1])), class = "b", coef = slopes[k])
}
for (group in task$groups) {
  inner <- c("Intercept", group$slopes)
  for (k in seq_along(inner)) {
    width <- sprintf("student_t(2, 0, %s)", number(group$scales[k]))
    priors <- priors + set_prior(width, class = "sd", coef = inner[k], group = group$column)
  }
  if (length(inner) > 1) priors <- priors + set_prior("lkj(1)", class = "cor", group = group$column)
}
if (!is.null(task$sigma_scale)) {
  priors <- priors + set_prior(sprintf("student_t(3, 0, %s)", number(task$sigma_scale)), class = "sigma")
}
compiled <- NULL
compiling <- seconds(compiled <- brm(model, data, family, prior = priors, chains = 0, silent = 2, refresh = 0))
took <- seconds(fit <- suppressWarnings(brm(
  fit = compiled, chains = task$chains, iter = task$warmup + task$draws, warmup = task$warmup, cores = 1,
  seed = task$seed, refresh = 0, silent = 2
)))

kept <- as.array(fit$fit)
name <- dimnames(kept)$parameters
drawn <- lapply(seq_len(task$chains), function(chain) {
  x <- matrix(kept[, chain, ], ncol = length(name), dimnames = list(NULL, name))
  values <- list(beta0 = x[, "b_Intercept"])
  for (k in seq_along(slopes)) values[[paste0("beta", k)]] <- x[, paste0("b_", slopes[k])]
  for (group in task$groups) {
    g <- group$column
    inner <- c("Intercept", group$slopes)
    for (i in seq_along(inner)) values[[sprintf("sd_%s_%d", g, i - 1)]] <- x[, sprintf("sd_%s__%s", g, inner[i])]
    for (k in seq_along(inner)) for (i in seq_len(k - 1)) {
      values[[sprintf("cor_%s_%d_%d", g, i - 1, k - 1)]] <- x[, sprintf("cor_%s__%s__%s", g, inner[i], inner[k])]
    }
  }
  if (task$family == "gaussian") values$sigma <- x[, "sigma"]
  do.call(cbind, values)
})
leave(drawn, importing, compiling[["wall"]], took, diverged(fit$fit))
