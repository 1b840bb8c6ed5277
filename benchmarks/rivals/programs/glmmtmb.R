# glmmTMB with its own settings; its model is what it makes with doFit = FALSE, before the tape of derivatives.
# Argument: the folder of this file.

suppressPackageStartupMessages(library(glmmTMB))
source(file.path(commandArgs(trailingOnly = TRUE)[1], "stopwatch.R"))

made <- function(data, task, fit) {
  family <- switch(
    task$family, gaussian = gaussian(), poisson = poisson(), bernoulli = binomial(), binomial = binomial()
  )
  # counts out of trials are a matrix of two columns here
  text <- gsub("proportion\\((\\w+), (\\w+)\\)", "cbind(\\1, \\2 - \\1)", task$formula)
  formula <- as.formula(text, globalenv())
  glmmTMB(formula, data, family = family, REML = task$criterion == "REML", doFit = fit)
}

told <- function(fit) {
  list(
    version = as.character(packageVersion("glmmTMB")), log_likelihood = as.numeric(logLik(fit)),
    converged = fit$fit$convergence == 0 && isTRUE(fit$sdr$pdHess), note = ""
  )
}

refit_all <- function(fit, count, task) {
  # its refit() is the same call again with another response
  data <- as.data.frame(fit$frame)
  sapply(simulate(fit, nsim = count), function(y) {
    data[[1]] <- y
    fixef(made(data, task, TRUE))$cond[[2]]
  })
}

measure(
  function(data, task) made(data, task, TRUE), told, function(data, task) made(data, task, FALSE),
  function(built, task) fitTMB(built), refit_all, few = 100
)
