# rstanarm: the same priors of the coefficients and of sigma; its own of the groups' covariances (decov, in which
# an sd is exponential), since it takes no other. Argument: the folder of this file.

importing <- system.time(suppressPackageStartupMessages(library(rstanarm)))[["elapsed"]]
source(file.path(commandArgs(trailingOnly = TRUE)[1], "shared.R"))

left <- if (task$family == "binomial") "cbind(y, trials - y)" else "y"
family <- switch(task$family, gaussian = gaussian(), poisson = poisson(), binomial())
model <- as.formula(paste(left, "~", right))
environment(model) <- globalenv()
given <- list(
  formula = model, data = data, family = family, chains = task$chains, iter = task$warmup + task$draws,
  warmup = task$warmup, cores = 1, seed = task$seed, refresh = 0, prior = normal(0, task$widths[-1]),
  prior_intercept = normal(task$level, task$widths[1])
)
if (!is.null(task$sigma_scale)) given$prior_aux <- student_t(3, 0, task$sigma_scale)
took <- seconds(fit <- suppressWarnings(do.call(stan_glmer, given)))

kept <- as.array(fit$stanfit)
name <- dimnames(kept)$parameters
drawn <- lapply(seq_len(task$chains), function(chain) {
  x <- matrix(kept[, chain, ], ncol = length(name), dimnames = list(NULL, name))
  values <- list(beta0 = x[, "(Intercept)"])
  for (k in seq_along(slopes)) values[[paste0("beta", k)]] <- x[, slopes[k]]
  for (group in task$groups) {
    g <- group$column
    inner <- c("(Intercept)", group$slopes)
    covariance <- function(i, k) {
      # only one of the two triangles has names
      both <- sprintf("Sigma[%s:%s,%s]", g, inner[c(i, k)], inner[c(k, i)])
      x[, both[both %in% name][1]]
    }
    for (i in seq_along(inner)) values[[sprintf("sd_%s_%d", g, i - 1)]] <- sqrt(covariance(i, i))
    for (k in seq_along(inner)) for (i in seq_len(k - 1)) {
      values[[sprintf("cor_%s_%d_%d", g, i - 1, k - 1)]] <-
        covariance(i, k) / sqrt(covariance(i, i) * covariance(k, k))
    }
  }
  if (task$family == "gaussian") values$sigma <- x[, grep("^(sigma|aux)$", name)[1]]
  do.call(cbind, values)
})
leave(drawn, importing, 0, took, diverged(fit$stanfit))
